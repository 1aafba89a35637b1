package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// quietAfter is how long an agent may be silent before its host counts as one
// that nobody hears of: six heartbeats of ten seconds.
const quietAfter = time.Minute

// overviewPage answers four questions.
type overviewPage struct {
	Coverage coverage
	Last     uint64 // newest incident, where the live counter starts
	Counts   []store.OutcomeCount
	Total    int
	Hours    []hour
	Newest   []store.Story
	Images   store.ImageCount
	Riskiest []store.Image
	Changes  []store.AuditEntry
	Policies int
}

// coverage is what is guarded, and above all what is not.
type coverage struct {
	Hosts, Quiet, Containers   int
	Enforced, Audited, Outside int
	Bare                       int // of Enforced: no policy's run section applies, only what is always on
	Behind                     int // containers with an older generation than the newest
	Generation                 uint64
	Weak                       []weakness
	Problems                   []hostProblem
}

// weakness is a control that some hosts cannot prevent.
type weakness struct {
	Title    string
	Strength event.Strength
	Hosts    int
}

type hostProblem struct{ Agent, Host, Text string }

// hour is one bar of the chart: height in percent of the highest.
type hour struct {
	Start  time.Time
	Count  int
	Height int
	X      int
}

func (c *Console) overview(v *visit) error {
	p := overviewPage{}
	var err error
	if p.Last, err = c.Store.LastIncident(v.ctx); err != nil {
		return err
	}
	if p.Coverage, err = c.coverage(v); err != nil {
		return err
	}
	day := store.IncidentFilter{Since: c.Now().Add(-24 * time.Hour)}
	if p.Counts, err = c.Store.CountIncidents(v.ctx, day); err != nil {
		return err
	}
	for _, n := range p.Counts {
		p.Total += n.Count
	}
	if p.Newest, err = c.Store.Stories(v.ctx, store.IncidentFilter{Limit: 5}); err != nil {
		return err
	}
	if err := c.chart(v, &p); err != nil {
		return err
	}
	if p.Images, err = c.Store.CountImages(v.ctx); err != nil {
		return err
	}
	if p.Riskiest, err = c.riskiest(v); err != nil {
		return err
	}
	policies, err := c.Store.Policies(v.ctx)
	if err != nil {
		return err
	}
	p.Policies = len(policies)
	if p.Changes, err = c.Store.AuditLog(v.ctx, "", 8); err != nil {
		return err
	}
	return v.show(http.StatusOK, "overview", "overview", "Overview", p)
}

func (c *Console) chart(v *visit, p *overviewPage) error {
	counts, err := c.Store.IncidentsPerHour(v.ctx, 24)
	if err != nil {
		return err
	}
	most := 1
	for _, n := range counts {
		most = max(most, n)
	}
	start := c.Now().UTC().Truncate(time.Hour).Add(-23 * time.Hour)
	for i, n := range counts {
		height := n * 40 / most
		if n > 0 {
			height = max(height, 2)
		}
		p.Hours = append(p.Hours, hour{Start: start.Add(time.Duration(i) * time.Hour), Count: n, Height: height, X: i * 10})
	}
	return nil
}

// maxRiskiest bounds the images of the overview.
const maxRiskiest = 5

// riskiest are images that policy refuses, then those with findings of medium
// severity or worse; of each, what runs comes first.
func (c *Console) riskiest(v *visit) ([]store.Image, error) {
	var risky []store.Image
	for _, f := range []store.ImageFilter{
		{Refused: true, Running: true}, {Worst: event.SeverityHigh, Running: true}, {Refused: true}, {Worst: event.SeverityMedium},
	} {
		f.Limit = maxRiskiest
		some, err := c.Store.Images(v.ctx, f)
		if err != nil {
			return nil, err
		}
		for _, i := range some {
			known := slices.ContainsFunc(risky, func(have store.Image) bool { return have.Digest == i.Digest })
			if len(risky) < maxRiskiest && !known {
				risky = append(risky, i)
			}
		}
	}
	return risky, nil
}

func (c *Console) coverage(v *visit) (coverage, error) {
	var cov coverage
	var err error
	if cov.Generation, err = c.Store.Generation(v.ctx); err != nil {
		return cov, err
	}
	agents, err := c.Store.Agents(v.ctx)
	if err != nil {
		return cov, err
	}
	for _, a := range agents {
		if !a.Revoked.IsZero() {
			continue
		}
		cov.add(a, c.Now())
	}
	return cov, nil
}

func (cov *coverage) add(a store.Agent, now time.Time) {
	cov.Hosts++
	if now.Sub(a.Seen) > quietAfter {
		cov.Quiet++
		cov.Problems = append(cov.Problems, hostProblem{a.ID, a.Host, "not heard of: last message " + ago(now, a.Seen)})
	}
	if a.Status == nil {
		return
	}
	for _, text := range a.Status.Problems {
		cov.Problems = append(cov.Problems, hostProblem{a.ID, a.Host, text})
	}
	for _, g := range a.Status.Containers {
		cov.container(g)
	}
	for _, line := range a.Status.Doctor.Capabilities {
		cov.weak(line)
	}
}

func (cov *coverage) container(g event.Guarded) {
	cov.Containers++
	switch g.Mode {
	case "enforce":
		cov.Enforced++
		if len(g.Policies) == 0 {
			cov.Bare++
		}
	case "audit":
		cov.Audited++
	default:
		cov.Outside++
	}
	if g.Generation < cov.Generation {
		cov.Behind++
	}
}

func (cov *coverage) weak(line event.Capability) {
	if line.Strength != event.StrengthDetect && line.Strength != event.StrengthNone {
		return
	}
	for i, w := range cov.Weak {
		if w.Title == line.Title && w.Strength == line.Strength {
			cov.Weak[i].Hosts++
			return
		}
	}
	cov.Weak = append(cov.Weak, weakness{line.Title, line.Strength, 1})
}

// auditPage is the log of who changed what.
type auditPage struct{ Entries []store.AuditEntry }

func (c *Console) audit(v *visit) error {
	entries, err := c.Store.AuditLog(v.ctx, v.r.URL.Query().Get("object"), 200)
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "audit", "audit", "Audit log", auditPage{entries})
}
