package check

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of a folder of checks.
const (
	maxChecks     = 1_000 // of one file
	maxSamples    = 30
	maxReferences = 20
)

// Load reads every *.yaml of a folder. The error holds every mistake with file,
// line and column. It does not try the samples: see Try.
func Load(files fs.FS) (*Checks, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil || len(names) == 0 {
		return nil, errors.Join(errors.New("checks: no *.yaml file"), err)
	}
	envs, err := environments()
	if err != nil {
		return nil, err
	}
	cs := &Checks{byID: map[string]*Check{}, on: map[string][]*Check{}}
	var errs []error
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err == nil {
			err = cs.add(envs, name, data)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return cs, nil
}

func (cs *Checks) add(envs map[string]*condition.Env, name string, data []byte) error {
	docs, err := document.Parse(name, data)
	if err != nil {
		return err
	}
	reader := document.NewReader(name)
	for _, doc := range docs {
		v := reader.Value(doc)
		v.Map(document.Fields{
			"apiVersion": func(v document.Value) { v.Word("breakwater/v1") },
			"kind":       func(v document.Value) { v.Word("Checks") },
			"checks": func(v document.Value) {
				v.List(maxChecks, func(v document.Value) { cs.put(v, parseCheck(v, envs)) })
			},
		})
		v.Require("apiVersion", "kind", "checks")
	}
	return reader.Err()
}

func (cs *Checks) put(v document.Value, c *Check) {
	if first := cs.byID[c.ID]; first != nil {
		v.Fail("the id %q is taken by %s", c.ID, first.Source)
		return
	}
	cs.byID[c.ID] = c
	cs.on[c.On] = append(cs.on[c.On], c)
}

var idShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`) })

func parseCheck(v document.Value, envs map[string]*condition.Env) *Check {
	c := &Check{Source: v.Source()}
	var when, message document.Value
	ok := v.Map(document.Fields{
		"id": func(v document.Value) {
			if c.ID = v.String(); !idShape().MatchString(c.ID) {
				v.Fail("%q must be lower-case words and digits joined by hyphens", c.ID)
			}
		},
		"title":       func(v document.Value) { c.Title = v.String() },
		"severity":    func(v document.Value) { c.Severity = event.Severity(v.Word("low", "medium", "high", "critical")) },
		"on":          func(v document.Value) { c.On = v.Word(kinds()...) },
		"when":        func(v document.Value) { when = v },
		"at":          func(v document.Value) { c.at = strings.Split(v.String(), ".") },
		"message":     func(v document.Value) { message = v },
		"remediation": func(v document.Value) { c.Remediation = v.String() },
		"references":  func(v document.Value) { c.References = v.Strings(maxReferences) },
		"mustFire":    func(v document.Value) { c.fire = samples(v) },
		"mustNotFire": func(v document.Value) { c.quiet = samples(v) },
	})
	if !ok {
		return c
	}
	v.Require("id", "title", "severity", "on", "when", "message", "remediation", "references", "mustFire", "mustNotFire")
	if env := envs[c.On]; env != nil && when.Node != nil && message.Node != nil {
		c.when = env.Compile(when)
		c.message = parseTemplate(message, views()[c.On])
	}
	return c
}

func samples(v document.Value) (list []sample) {
	v.List(maxSamples, func(v document.Value) { list = append(list, sample{v.Node, v.Source()}) })
	return list
}

// Try tries every check on its own samples. A check that does not fire where it
// must, or fires where it must not, is an error that names the sample.
func (cs *Checks) Try() error {
	var errs []error
	for _, c := range cs.All() {
		if len(c.fire) == 0 || len(c.quiet) == 0 {
			errs = append(errs, fmt.Errorf("%s: %s has no mustFire or no mustNotFire sample", c.Source, c.ID))
		}
		try := func(list []sample, want bool) {
			for _, s := range list {
				switch fires, err := c.tryOn(s); {
				case err != nil:
					errs = append(errs, fmt.Errorf("%s: %s: %w", s.source, c.ID, err))
				case fires != want:
					errs = append(errs, fmt.Errorf("%s: %s fires: %v, want %v", s.source, c.ID, fires, want))
				}
			}
		}
		try(c.fire, true)
		try(c.quiet, false)
	}
	return errors.Join(errs...)
}

func (c *Check) tryOn(s sample) (bool, error) {
	alone := &Checks{byID: map[string]*Check{c.ID: c}, on: map[string][]*Check{c.On: {c}}}
	subjects, err := sampleSubjects(c.On, s.node)
	if err != nil {
		return false, err
	}
	var found []violation
	var gaps []string
	for _, one := range subjects {
		one.place = func(line int) event.Place { return event.Place{Kind: event.PlaceFile, Line: line} }
		alone.judge(one, &found, &gaps)
	}
	if len(gaps) > 0 {
		return false, errors.New(strings.Join(gaps, "; "))
	}
	return len(found) > 0, nil
}
