package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/store"
)

type incidentsPage struct {
	Rows     []store.Story
	Filter   url.Values // as in the URL, for the form
	Query    string     // the filter alone, for the live counter and other pages
	Filtered bool
	Last     uint64 // newest incident of all when the page was made
	Older    string // link to the next page; "" when this is the last
	Newer    string // link to the first page; "" when this is it
}

// IncidentFilter reads a filter from a URL's query. Times are "24h" or "7d"
// back from now. Unknown values of a list select nothing wrong: they are errors.
func IncidentFilter(q url.Values, now time.Time) (store.IncidentFilter, error) {
	f := store.IncidentFilter{
		Key: q.Get("key"), Agent: q.Get("agent"), Host: q.Get("host"), Container: q.Get("container"), Image: q.Get("image"),
		Policy: q.Get("policy"), Detection: q.Get("detection"), Text: q.Get("text"),
		Outcome: event.Outcome(q.Get("outcome")), Control: event.Control(q.Get("control")),
	}
	if s := q.Get("severity"); s != "" {
		var ok bool
		if f.Severity, ok = event.ParseSeverity(s); !ok {
			return f, fmt.Errorf("severity %q: use negligible, low, medium, high or critical", s)
		}
	}
	var err error
	if s := q.Get("since"); s != "" {
		if f.Since, err = since(s, now); err != nil {
			return f, err
		}
	}
	if f.Before, err = number(q, "before"); err != nil {
		return f, err
	}
	f.After, err = number(q, "after")
	return f, err
}

func number(q url.Values, name string) (uint64, error) {
	s := q.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s %q: use an incident's number", name, s)
	}
	return n, nil
}

// Since reads how far back from now a length of time goes, as 90m, 24h or 7d; ""
// is the zero time.
func Since(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return since(s, now)
}

// since reads how far back: a Go duration, or days as in 7d.
func since(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 12); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("since %q: use a length of time back from now, as 90m, 24h or 7d", s)
	}
	return now.Add(-d), nil
}

func (c *Console) incidents(v *visit) error {
	q := v.r.URL.Query()
	f, err := IncidentFilter(q, c.Now())
	if err != nil {
		return v.badRequest(err)
	}
	p := incidentsPage{Filter: q}
	// The newest is read first: what arrives between is counted as new, never missed.
	if p.Last, err = c.Store.LastIncident(v.ctx); err != nil {
		return err
	}
	if p.Rows, err = c.Store.Stories(v.ctx, f); err != nil {
		return err
	}
	if len(p.Rows) == 50 {
		older := clone(q)
		older.Set("before", fmt.Sprint(p.Rows[len(p.Rows)-1].Newest.ID))
		p.Older = "/incidents?" + older.Encode()
	}
	plain := clone(q)
	plain.Del("before")
	for name := range plain {
		if plain.Get(name) == "" {
			plain.Del(name)
		}
	}
	p.Query, p.Filtered = plain.Encode(), len(plain) > 0
	if f.Before > 0 {
		p.Newer = "/incidents?" + p.Query
	}
	return v.show(http.StatusOK, "incidents", "incidents", "Incidents", p)
}

func clone(q url.Values) url.Values {
	out := url.Values{}
	for k, v := range q {
		out[k] = v
	}
	return out
}

func (v *visit) badRequest(err error) error {
	return v.show(http.StatusBadRequest, "problem", "", "Bad request", problemPage{Status: http.StatusBadRequest, What: sentence(err.Error()), Request: v.c.Request(v.r)})
}

// incidentPage is one incident and everything needed to understand it.
type incidentPage struct {
	store.Incident
	Story      *storyPart
	Why        []reason
	Tree       family
	Facts      []fact
	Next       []string // what a person can do
	Around     []store.Event
	KnownImage bool
	Wanted     event.Effect // where another one was carried out
	Agent      store.Agent
	Kept       bool   // its agent keeps evidence, as far as it had room
	Exceptable bool   // an exception can be made from it
	Keeps      string // what the exception would not lift
	Soon       string // a last day for it
}

// treeRow is one process, indented by its depth.
type treeRow struct {
	event.Process
	Depth  int
	Target bool // the one that did it
}

type fact struct{ Name, Value string }

func (c *Console) incident(v *visit) error {
	id, err := strconv.ParseUint(v.r.PathValue("id"), 10, 63)
	if err != nil {
		return fmt.Errorf("incident %q: %w", v.r.PathValue("id"), store.ErrNotFound)
	}
	inc, err := c.Store.Incident(v.ctx, id)
	if err != nil {
		return err
	}
	p := incidentPage{Incident: inc, Tree: fold(tree(inc)), Facts: facts(inc.Event), Wanted: wanted(inc.Decision)}
	if c.Options.Detections != nil && v.who.MayWrite() {
		p.Exceptable, p.Keeps = exceptable(inc)
		p.Kept = inc.Container != nil && inc.Container.ID != "" && inc.Event.Process != nil && inc.Severity.Rank() >= event.SeverityMedium.Rank()
		p.Soon = c.Now().AddDate(0, 0, 30).Format(time.DateOnly)
	}
	if p.Story, err = c.story(v, id); err != nil {
		return err
	}
	if p.Why, err = c.reasons(v, inc); err != nil {
		return err
	}
	p.Next = nextSteps(inc, p.Why[0].names())
	if p.Agent, err = c.Store.Agent(v.ctx, inc.Incident.Agent); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if inc.Container != nil {
		if inc.Container.ID != "" { // one that the gate refused never had an id
			if p.Around, err = c.Store.Events(v.ctx, store.EventFilter{Agent: inc.Incident.Agent, Container: inc.Container.ID, Limit: 15}); err != nil {
				return err
			}
		}
		_, _, err := c.Store.Image(v.ctx, inc.Container.Image.Digest)
		p.KnownImage = err == nil
	}
	return v.show(http.StatusOK, "incident", "incidents", fmt.Sprintf("Incident %d", id), p)
}

// wanted is the effect of the policy when what was done is something else: a
// host that cannot refuse a program kills it.
func wanted(d event.Decision) event.Effect {
	if d.Effect == event.EffectAlert || d.Outcome == event.Prevented && d.Effect == event.EffectBlock || d.Outcome == event.Killed && d.Effect == event.EffectKill {
		return ""
	}
	return d.Effect
}

// tree indents each process below its parent; ancestors come first.
func tree(inc store.Incident) []treeRow {
	depth := map[string]int{}
	var rows []treeRow
	for _, p := range inc.Tree {
		d := 0
		if up, ok := depth[p.ParentID]; ok && p.ParentID != "" {
			d = up + 1
		}
		d = min(d, 12)
		depth[p.ID] = d
		rows = append(rows, treeRow{Process: p, Depth: d})
	}
	if ev := inc.Event.Process; ev != nil {
		for i := range rows {
			rows[i].Target = rows[i].ID == ev.ID
		}
	}
	return rows
}

// family is a process tree; a long one is folded in the middle.
type family struct{ First, Between, Last []treeRow }

// What is shown of a long tree: where it began, and what led to the act.
const (
	firstProcesses = 2
	lastProcesses  = 8
)

func fold(rows []treeRow) family {
	if len(rows) <= firstProcesses+lastProcesses+1 {
		return family{First: rows}
	}
	end := len(rows) - lastProcesses
	return family{rows[:firstProcesses], rows[firstProcesses:end], rows[end:]}
}

// facts are the evidence's fields that carry something, for people.
func facts(ev event.Event) []fact {
	f := factList{}
	if p := ev.Process; p != nil {
		f.add("Process", fmt.Sprintf("%s (pid %d, parent %d)", p.Comm, p.PID, p.PPID))
		f.add("User", fmt.Sprintf("uid %d, gid %d", p.UID, p.GID))
		f.add("Executable", p.Path)
		f.add("Arguments", strings.Join(p.Args, " "))
	}
	if x := ev.Exec; x != nil {
		f.add("Program", x.Path)
		f.add("Script", x.Script)
		f.flag("In the writable layer", x.Upper)
		f.flag("Modified after the container started", x.Modified)
		f.flag("Has no name in any directory", x.Fileless)
		f.flag("Standard input is a network socket", x.StdinSocket)
		f.flag("Standard output is a network socket", x.StdoutSocket)
	}
	if x := ev.File; x != nil {
		f.add("File", x.Path)
		f.flag("Opened for writing", x.Write)
		f.add("File system", x.Filesystem)
	}
	if n := ev.Network; n != nil {
		f.add("Peer", peer(*n))
		f.add("First bytes", n.Head)
	}
	if g := ev.Gate; g != nil {
		f.add("Request", g.Action+" on "+g.Engine)
		f.add("Asked by", g.User)
	}
	if n := ev.Notice; n != nil {
		f.add("Notice", n.Message)
	}
	return f
}

type factList []fact

func (f *factList) add(name, value string) {
	if value != "" {
		*f = append(*f, fact{name, value})
	}
}

func (f *factList) flag(name string, on bool) {
	if on {
		f.add(name, "yes")
	}
}

func peer(n event.Network) string {
	if n.Path != "" {
		return n.Path
	}
	return strings.TrimSpace(fmt.Sprintf("%s port %d %s", n.Address, n.Port, n.Transport))
}

// nextSteps says what a person can do about an incident, the tightest first.
// Policies are those whose list or rule decided.
func nextSteps(inc store.Incident, policies string) []string {
	ev := inc.Event
	inc.Decision.Policy = policies
	path := ""
	if ev.Exec != nil {
		path = ev.Exec.Path
	} else if ev.File != nil {
		path = ev.File.Path
	}
	switch d := inc.Decision; {
	case d.Outcome == event.NotCovered:
		return []string{"This host cannot stop such an act. Its page says what it lacks and how it would get it."}
	case d.Control == event.ControlDrift:
		return []string{"If nobody meant to run `" + path + "`: keep the container for evidence, then replace it; its image is unchanged.",
			"If it belongs there: build it into the image, so that it is scanned and judged with it."}
	case d.Control == event.ControlExec:
		return []string{execStep(path, d),
			"If not: see who started it in the process tree, and replace the container."}
	case d.Control == event.ControlFileRead || d.Control == event.ControlFileWrite:
		return []string{"If it is wanted: take the pattern out of `run.files` of " + named(d.Policy) + ", or name what lies beside `" + path + "` in its stead.",
			"If not: see which program did it in the process tree, and replace the container."}
	case d.Control == event.ControlNetwork && ev.Network != nil:
		return append(networkStep(ev, d), "If not: see which program connected, and replace the container.")
	case d.Control == event.ControlResources && d.Policy != "":
		return []string{"If it needs that much: raise the limit in `run.resources` of " + named(d.Policy) + ".",
			"If not: see what runs in it. What was throttled is let go when policy no longer wants it, what was paused by the engine's `unpause`."}
	case d.Control == event.ControlResources:
		return []string{"If nobody expects it: see what runs in the container. To hold it next time, set a limit under `run.resources`."}
	case d.Control == event.ControlStart || d.Control == event.ControlImage:
		return []string{"Each violated rule above says how to comply.", "If it must run meanwhile: add an exception with a reason and an end date to that policy."}
	case d.Outcome == event.Detected:
		return []string{"It happened: look at the process tree and replace the container. To have it stopped next time, set an effect of `kill` or `stop` for this detection under `run.detections.effect`."}
	}
	return []string{"It was stopped. See in the process tree how it came to be, and replace the container: it has been entered."}
}

// execStep says how a program is allowed that policy names in deny, or does not
// name in allow.
func execStep(path string, d event.Decision) string {
	if strings.HasPrefix(d.Rule, "run.exec ") {
		return "If `" + path + "` is wanted: take it out of `run.exec.deny` of " + named(d.Policy) + "."
	}
	return "If `" + path + "` is wanted: add its exact path to `run.exec.allow` of " + listing(d.Policy) + "."
}

// networkStep says how a connection is allowed. Only one that no rule names is
// allowed by a rule more: egress is a list of all that may be reached.
func networkStep(ev event.Event, d event.Decision) []string {
	n := ev.Network
	addr, _ := netip.ParseAddr(n.Address)
	switch {
	case ev.Kind == event.KindSocket:
		return []string{"If it is wanted: add an exception for `rule.startsWith(\"run.network\")` and this container to " + named(d.Policy) + ", with a reason and an end date; the rest of its network policy is then lifted too."}
	case policy.IsMetadataService(addr) && d.Rule != "run.network.egress":
		return []string{"If it is wanted: add an exception for `rule == \"run.network.metadataService\"` and this container to " + named(d.Policy) + ", with a reason and an end date."}
	case strings.HasPrefix(d.Rule, "run.network "):
		return []string{fmt.Sprintf("If `%s` port %d is wanted: take it out of `run.network.deny` of %s.", n.Address, n.Port, named(d.Policy))}
	}
	return []string{fmt.Sprintf("If `%s` port %d is wanted: add `{to: %s, ports: [%d]}` to `run.network.egress` of %s.", n.Address, n.Port, n.Address, n.Port, listing(d.Policy))}
}

// listing names the policies whose list is meant: several apply together, and
// a list in one that has none would be one more restriction.
func listing(policies string) string {
	if strings.Contains(policies, ", ") {
		return "each of `" + strings.ReplaceAll(policies, ", ", "`, `") + "` that has that list"
	}
	return named(policies)
}

func named(name string) string {
	if name == "" {
		return "the policy"
	}
	return "`" + name + "`"
}
