package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

type hostsPage struct {
	Rows       []hostRow
	Generation uint64
}

// hostRow is a host in one line, the uncovered things too.
type hostRow struct {
	store.Agent
	Quiet    bool
	Coverage coverage
}

func (c *Console) hosts(v *visit) error {
	newest, err := c.Store.Generation(v.ctx)
	if err != nil {
		return err
	}
	agents, err := c.Store.Agents(v.ctx)
	if err != nil {
		return err
	}
	p := hostsPage{Generation: newest}
	for _, a := range agents {
		p.Rows = append(p.Rows, c.hostRow(a, newest))
	}
	return v.show(http.StatusOK, "hosts", "hosts", "Hosts", p)
}

func (c *Console) hostRow(a store.Agent, newest uint64) hostRow {
	row := hostRow{Agent: a, Quiet: c.Now().Sub(a.Seen) > quietAfter, Coverage: coverage{Generation: newest}}
	row.Coverage.add(a, c.Now())
	return row
}

// hostPage is one host: its agent's health, what it can do, its containers.
type hostPage struct {
	hostRow
	Doctor     []event.Capability
	Containers []event.Guarded // the uncovered first
	Rejected   int
	Reason     string
	Newest     uint64
	Doctored   event.Doctor
}

func (c *Console) host(v *visit) error {
	a, err := c.Store.Agent(v.ctx, v.r.PathValue("agent"))
	if err != nil {
		return err
	}
	p := hostPage{}
	if p.Newest, err = c.Store.Generation(v.ctx); err != nil {
		return err
	}
	p.hostRow = c.hostRow(a, p.Newest)
	if a.Status != nil {
		p.Doctored = a.Status.Doctor
		p.Containers = uncoveredFirst(a.Status.Containers)
	}
	if p.Rejected, p.Reason, err = c.Store.Rejects(v.ctx, a.ID); err != nil {
		return err
	}
	return v.show(http.StatusOK, "host", "hosts", a.Host, p)
}

func uncoveredFirst(all []event.Guarded) []event.Guarded {
	var covered, outside []event.Guarded
	for _, g := range all {
		if g.Mode == "enforce" || g.Mode == "audit" {
			covered = append(covered, g)
		} else {
			outside = append(outside, g)
		}
	}
	return append(outside, covered...)
}

// searchPage is what matches a word, of every kind of thing.
type searchPage struct {
	Text       string
	Incidents  []store.Incident
	Images     []store.Image
	Policies   []store.Policy
	Containers []containerHit
	Hosts      []store.Agent
	Empty      bool
}

type containerHit struct {
	Agent, Host string
	event.Guarded
}

// maxSearch bounds the word, and each list of hits.
const (
	maxSearch = 200
	maxHits   = 20
)

func (c *Console) search(v *visit) error {
	text := strings.TrimSpace(v.r.URL.Query().Get("q"))
	if len(text) > maxSearch {
		return v.badRequest(fmt.Errorf("the search has %d bytes: use at most %d", len(text), maxSearch))
	}
	if id, err := strconv.ParseUint(strings.TrimPrefix(text, "#"), 10, 63); err == nil {
		if _, err := c.Store.Incident(v.ctx, id); err == nil {
			http.Redirect(v.w, v.r, fmt.Sprintf("/incidents/%d", id), http.StatusSeeOther)
			return nil
		}
	}
	if vulnerabilityID(text) {
		http.Redirect(v.w, v.r, "/where?"+url.Values{"kind": {string(store.ThingVulnerability)}, "name": {text}}.Encode(), http.StatusSeeOther)
		return nil
	}
	p := searchPage{Text: text}
	if text != "" {
		if err := c.find(v, &p); err != nil {
			return err
		}
	}
	p.Empty = len(p.Incidents)+len(p.Images)+len(p.Policies)+len(p.Containers)+len(p.Hosts) == 0
	return v.show(http.StatusOK, "search", "", "Search", p)
}

func (c *Console) find(v *visit, p *searchPage) error {
	var err error
	if p.Incidents, err = c.Store.Incidents(v.ctx, store.IncidentFilter{Text: p.Text, Limit: maxHits}); err != nil {
		return err
	}
	if p.Images, err = c.Store.Images(v.ctx, store.ImageFilter{Text: p.Text, Limit: maxHits}); err != nil {
		return err
	}
	policies, err := c.Store.Policies(v.ctx)
	if err != nil {
		return err
	}
	for _, pol := range policies {
		if len(p.Policies) < maxHits && (holds(pol.Name, p.Text) || holds(pol.Source, p.Text)) {
			p.Policies = append(p.Policies, pol)
		}
	}
	agents, err := c.Store.Agents(v.ctx)
	if err != nil {
		return err
	}
	for _, a := range agents {
		p.findOn(a)
	}
	return nil
}

func (p *searchPage) findOn(a store.Agent) {
	if len(p.Hosts) < maxHits && (holds(a.Host, p.Text) || a.ID == p.Text) {
		p.Hosts = append(p.Hosts, a)
	}
	if a.Status == nil {
		return
	}
	for _, g := range a.Status.Containers {
		if len(p.Containers) < maxHits && (holds(g.Container.Name, p.Text) || strings.HasPrefix(g.Container.ID, p.Text)) {
			p.Containers = append(p.Containers, containerHit{a.ID, a.Host, g})
		}
	}
}

func holds(s, part string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(part)) }
