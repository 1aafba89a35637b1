package web

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// reason is a rule that decided, with the way to its source line.
type reason struct {
	Rule, Message, Remediation string
	Policies                   []place // none for the always-on pack
	Audit                      bool
}

// names are the policies as a decision names several.
func (r reason) names() string {
	var names []string
	for _, p := range r.Policies {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// place is a policy, and the line of a rule in its source.
type place struct {
	Name    string
	Link    string // "" when the console has no such policy
	Line    int    // 0 when it is not known
	Version int    // 0 when it is the newest
}

// reasons lists what decided: the rule of the decision, or every violated rule
// when the gate judged.
func (c *Console) reasons(v *visit, inc store.Incident) ([]reason, error) {
	find := finder{c: c, v: v, at: c.decided(v, inc)}
	if g := inc.Event.Gate; g != nil && len(g.Verdict.Violations) > 0 {
		return find.violations(g.Verdict.Violations)
	}
	d := inc.Decision
	rule, source := splitRule(d.Rule)
	r := reason{Rule: rule, Message: capital(d.Why), Audit: d.Audit}
	if d.Policy == "" {
		return []reason{r}, nil
	}
	path := rule
	if d.Control == event.ControlDetection {
		path = "run.detections"
	}
	var err error
	r.Policies, err = find.places(d.Policy, path, source)
	return []reason{r}, err
}

// decided is when the policies that decided came into force: zero when it is
// not known, so that the newest ones are meant.
func (c *Console) decided(v *visit, inc store.Incident) time.Time {
	generation := inc.Decision.Generation
	if g := inc.Event.Gate; g != nil && g.Verdict.Generation > 0 {
		generation = g.Verdict.Generation
	}
	at, err := c.Store.GenerationTime(v.ctx, generation)
	if err != nil {
		return time.Time{}
	}
	return at
}

// finder finds rules in the policies as they were at a time.
type finder struct {
	c  *Console
	v  *visit
	at time.Time // zero: now
}

func (f finder) violations(all []event.Violation) ([]reason, error) {
	var out []reason
	for _, x := range all {
		_, source := splitRule(x.Source)
		places, err := f.places(x.Policy, x.Rule, source)
		if err != nil {
			return nil, err
		}
		out = append(out, reason{Rule: x.Rule, Message: capital(x.Message), Remediation: x.Remediation, Audit: x.Audit, Policies: places})
	}
	return out, nil
}

// places finds a rule in each of the policies that decided together, those
// that have it when some have it. A line that the decision names is taken as
// it is; else the rule is looked for.
func (f finder) places(policies, rule string, line int) ([]place, error) {
	var all, having []place
	for _, name := range strings.Split(policies, ", ") {
		if name == "" {
			continue
		}
		p, source, err := f.version(name)
		if err != nil {
			return nil, err
		}
		whole := false
		if p.Line = line; line == 0 {
			p.Line, whole = ruleLine(source, rule)
		}
		p.link()
		all = append(all, p)
		if whole {
			having = append(having, p)
		}
	}
	if len(having) > 0 {
		return having, nil
	}
	return all, nil
}

// version is the version of a policy that was in force at the time.
func (f finder) version(name string) (p place, source string, err error) {
	p.Name = name
	versions, err := f.c.Store.PolicyVersions(f.v.ctx, name)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(versions) == 0 {
		return p, "", nil
	}
	if err != nil {
		return p, "", err
	}
	i := slices.IndexFunc(versions, func(x store.Policy) bool { return f.at.IsZero() || !x.Time.After(f.at) })
	i = max(i, 0)
	p.Link = policyLink(name)
	if i > 0 {
		p.Version = versions[i].Version
	}
	return p, versions[i].Source, nil
}

func (p *place) link() {
	if p.Link == "" {
		p.Line = 0
		return
	}
	if p.Version > 0 {
		p.Link += "?version=" + strconv.Itoa(p.Version)
	}
	if p.Line > 0 {
		p.Link += "#L" + strconv.Itoa(p.Line)
	}
}

func policyLink(name string) string { return "/policies/" + url.PathEscape(name) }

// ruleSource is the place at the end of a rule: run.exec.drift (payments:9).
var ruleSource = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:(.*) \()?[^:()]+:([1-9][0-9]{0,6})\)?$`) })

// splitRule takes the line off a rule, or off a source that is only a place.
func splitRule(rule string) (name string, line int) {
	m := ruleSource().FindStringSubmatch(rule)
	if m == nil {
		return rule, 0
	}
	line, _ = strconv.Atoi(m[2]) // the pattern is a number
	return m[1], line
}

// ruleLine finds the line of a rule such as run.exec.drift in a policy's
// source: the key of the longest beginning that stands there, 0 when not even
// its section does. whole says that all of it stands there.
func ruleLine(source, rule string) (line int, whole bool) {
	docs, err := document.Parse("policy", []byte(source))
	if err != nil || len(docs) == 0 || rule == "" {
		return 0, false
	}
	node := docs[0]
	for _, word := range strings.Split(rule, ".") {
		next, at := child(node, word)
		if at == 0 {
			return line, false
		}
		node, line = next, at
	}
	return line, true
}

// child is the value of a key, or the rule of that id in a section's rules.
func child(node *document.Node, word string) (*document.Node, int) {
	if node == nil {
		return nil, 0
	}
	for _, pair := range node.Pairs {
		if pair.Key == word {
			return pair.Value, pair.Line
		}
	}
	for _, pair := range node.Pairs {
		if pair.Key != "rules" || pair.Value == nil {
			continue
		}
		for _, item := range pair.Value.Items {
			if id, line := child(item, "id"); line > 0 && id != nil && id.Text == word {
				return item, line
			}
		}
	}
	return nil, 0
}

// outline is what a policy's source says of itself.
type outline struct {
	Description string
	Mode        string   // enforce, audit, or "by stage"
	Sections    []string // of image, start and run
}

func outlineOf(source string) outline {
	o := outline{Mode: "enforce"}
	docs, err := document.Parse("policy", []byte(source))
	if err != nil || len(docs) == 0 {
		return outline{Mode: "not known"}
	}
	if metadata, _ := child(docs[0], "metadata"); metadata != nil {
		if d, _ := child(metadata, "description"); d != nil {
			o.Description = d.Text
		}
	}
	if mode, line := child(docs[0], "mode"); line > 0 && mode != nil {
		if o.Mode = mode.Text; mode.Kind == document.Map {
			o.Mode = "by stage"
		}
	}
	for _, section := range []string{"image", "start", "run"} {
		if _, line := child(docs[0], section); line > 0 {
			o.Sections = append(o.Sections, section)
		}
	}
	return o
}
