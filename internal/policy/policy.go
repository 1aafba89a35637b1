package policy

import (
	"fmt"
	"regexp"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// APIVersion is the only version of the language.
const APIVersion = "breakwater/v1"

// The bounds of one policy, beside those of package document.
const (
	maxRules      = 200   // CEL rules of one section
	maxExceptions = 1_000 // and as many waivers
	maxPatterns   = 2_000 // paths or peers in one list
)

// Policy is one checked and compiled policy. It never changes and is safe for
// concurrent use.
type Policy struct {
	Name        string
	Description string
	Labels      map[string]string
	File        string // as given to Parse
	Line        int    // where the document starts

	scope      *condition.Condition // nil: everything
	mode       mode
	image      *imageSection
	start      *startSection
	run        *runSection
	exceptions []exception
	waivers    []waiver
}

// Parse reads every policy of a YAML file; name stands in errors and in the
// Source of violations. Nothing is returned unless all of it is right: the
// error then is a document.Errors, one entry per mistake with file, line,
// column, field and the way out. Parse is pure and bounded; it accepts
// untrusted data.
func Parse(name string, data []byte) ([]*Policy, error) {
	docs, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	envs, err := environments()
	if err != nil {
		return nil, err
	}
	r := document.NewReader(name)
	policies := make([]*Policy, 0, len(docs))
	seen := map[string]int{}
	for _, doc := range docs {
		at := r.Value(doc)
		p := &Policy{File: name, Line: doc.Line, mode: mode{all: modeEnforce}}
		parser{envs}.policy(at, p)
		if first, twice := seen[p.Name]; twice && p.Name != "" {
			at.Fail("a policy named %q stands on line %d already: give each a name of its own", p.Name, first)
		}
		seen[p.Name] = doc.Line
		policies = append(policies, p)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if len(policies) == 0 {
		return nil, document.Errors{{File: name, Line: 1, Column: 1, Message: "holds no policy"}}
	}
	return policies, nil
}

// parser reads the parts of a policy with the variables that each may use.
type parser struct{ envs *envs }

func (ps parser) policy(v document.Value, p *Policy) {
	ok := v.Map(document.Fields{
		"apiVersion":   func(v document.Value) { v.Word(APIVersion) },
		"kind":         func(v document.Value) { v.Word("Policy") },
		"metadata":     func(v document.Value) { ps.metadata(v, p) },
		"scope":        func(v document.Value) { p.scope = ps.envs.subject.Compile(v) },
		"mode":         func(v document.Value) { p.mode = parseMode(v) },
		"enforceAfter": nil,
		"image":        func(v document.Value) { p.image = ps.imageSection(v) },
		"start":        func(v document.Value) { p.start = ps.startSection(v) },
		"access":       nil,
		"run":          func(v document.Value) { p.run = parseRun(v) },
		"exceptions":   func(v document.Value) { p.exceptions = ps.exceptions(v) },
		"waivers":      func(v document.Value) { p.waivers = parseWaivers(v) },
	})
	if ok {
		v.Require("apiVersion", "kind", "metadata")
	}
}

var nameShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`) })

func (ps parser) metadata(v document.Value, p *Policy) {
	ok := v.Map(document.Fields{
		"name": func(v document.Value) {
			p.Name = v.String()
			if p.Name != "" && !nameShape().MatchString(p.Name) {
				v.Fail("%q must be 1 to 63 lower-case letters, digits, dots and hyphens, and begin and end with a letter or digit", p.Name)
			}
		},
		"description": func(v document.Value) { p.Description = v.String() },
		"labels": func(v document.Value) {
			p.Labels = map[string]string{}
			v.Each(func(key string, at document.Value) { p.Labels[key] = at.String() })
		},
	})
	if ok {
		v.Require("name")
	}
}

// The modes.
const (
	modeEnforce = "enforce"
	modeAudit   = "audit"
)

// mode says where a policy enforces.
type mode struct {
	all     string            // one word for everything, or
	byStage map[string]string // a word per stage; "default" for the others
}

func parseMode(v document.Value) mode {
	if v.Kind != document.Map {
		return mode{all: v.Word(modeEnforce, modeAudit)}
	}
	m := mode{byStage: map[string]string{}}
	word := func(stage string) func(document.Value) {
		return func(v document.Value) { m.byStage[stage] = v.Word(modeEnforce, modeAudit) }
	}
	v.Map(document.Fields{
		"production": word("production"), "staging": word("staging"),
		"development": word("development"), "default": word("default"),
	})
	return m
}

// Enforces says whether the policy stops what it forbids at that stage, or
// only records it. A stage that the mode does not name takes its default, and
// without one is enforced: what nobody labelled may be production.
func (p *Policy) Enforces(stage string) bool {
	if p.mode.all != "" {
		return p.mode.all == modeEnforce
	}
	if word, ok := p.mode.byStage[stage]; ok && stage != "default" {
		return word == modeEnforce
	}
	return p.mode.byStage["default"] != modeAudit
}

// Sections lists which of image, start and run the policy speaks of.
func (p *Policy) Sections() []string {
	var names []string
	if p.image != nil {
		names = append(names, "image")
	}
	if p.start != nil {
		names = append(names, "start")
	}
	if p.run != nil {
		names = append(names, "run")
	}
	return names
}

// rule is a condition of the user's own, in the image or start section.
type rule struct {
	id, message, remediation string
	source                   string
	deny                     *condition.Condition
}

func parseRules(v document.Value, section string, env *condition.Env) []rule {
	var rules []rule
	seen := map[string]bool{}
	v.List(maxRules, func(v document.Value) {
		r := rule{source: v.Source()}
		ok := v.Map(document.Fields{
			"id": func(v document.Value) {
				r.id = v.String()
				if r.id != "" && !nameShape().MatchString(r.id) {
					v.Fail("%q must be lower-case letters, digits, dots and hyphens", r.id)
				}
				if seen[r.id] {
					v.Fail("the id %q is taken by a rule above: give each an id of its own", r.id)
				}
				seen[r.id] = true
			},
			"deny":        func(v document.Value) { r.deny = env.Compile(v) },
			"message":     func(v document.Value) { r.message = v.String() },
			"remediation": func(v document.Value) { r.remediation = v.String() },
		})
		if ok {
			v.Require("id", "deny", "message")
		}
		r.id = fmt.Sprintf("%s.%s", section, r.id)
		rules = append(rules, r)
	})
	return rules
}
