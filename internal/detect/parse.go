package detect

import (
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

func parseRule(v document.Value, env *condition.Env) *Rule {
	r := &Rule{Source: v.Source()}
	ok := v.Map(document.Fields{
		"apiVersion":  func(v document.Value) { v.Word("breakwater/v1") },
		"kind":        func(v document.Value) { v.Word("Detection") },
		"id":          func(v document.Value) { r.ID = parseID(v) },
		"title":       func(v document.Value) { r.Title = v.String() },
		"severity":    func(v document.Value) { r.Severity = event.Severity(v.Word("low", "medium", "high", "critical")) },
		"description": func(v document.Value) { r.Description = strings.TrimSpace(v.String()) },
		"attack":      func(v document.Value) { r.Attack = parseAttack(v) },
		"events":      func(v document.Value) { r.Kinds = parseKinds(v) },
		"watch":       func(v document.Value) { r.Watch = parseWatch(v) },
		"programs":    func(v document.Value) { r.Programs = parsePrograms(v) },
		"control": func(v document.Value) {
			r.Control = event.Control(v.Word(string(event.ControlExec), string(event.ControlNetwork)))
		},
		"count":       func(v document.Value) { r.Count = parseCount(v) },
		"when":        func(v document.Value) { r.when = env.Compile(v) },
		"sentence":    func(v document.Value) { r.sentence = parseTemplate(v) },
		"effect":      func(v document.Value) { r.Effect = event.Effect(v.Word("alert", "block", "kill", "pause", "stop")) },
		"alwaysOn":    func(v document.Value) { r.AlwaysOn = v.Bool() },
		"kernel":      func(v document.Value) { r.Kernel = v.Word(kernelMechanisms()...) },
		"mustFire":    func(v document.Value) { r.fire = parseExamples(v) },
		"mustNotFire": func(v document.Value) { r.quiet = parseExamples(v) },
	})
	if !ok {
		return r
	}
	v.Require("apiVersion", "kind", "id", "title", "severity", "description", "attack", "events", "when", "sentence", "effect", "mustFire", "mustNotFire")
	if r.Effect == event.EffectBlock && r.Kernel == "" && v.Has("effect") {
		v.Fail("only a mechanism in the kernel can block: name it in kernel, or use alert, kill, pause or stop")
	}
	r.checkCount(v)
	return r
}

var idShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,62}$`) })

func parseID(v document.Value) string {
	id := v.String()
	if id != "" && !idShape().MatchString(id) {
		v.Fail("%q must be lower-case letters, digits and hyphens", id)
	}
	return id
}

// techniqueShape is that of ATT&CK technique and sub-technique ids.
var techniqueShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`) })

func parseAttack(v document.Value) []string {
	var ids []string
	v.List(10, func(v document.Value) {
		id := v.String()
		if !techniqueShape().MatchString(id) {
			v.Fail("%q is not the id of an ATT&CK technique: write it as T1611 or T1059.004", id)
		}
		ids = append(ids, id)
	})
	return ids
}

func parseKinds(v document.Value) []event.Kind {
	var kinds []event.Kind
	words := eventKinds()
	v.List(len(words), func(v document.Value) { kinds = append(kinds, event.Kind(v.Word(words...))) })
	if len(kinds) == 0 {
		v.Fail("is empty: name the kinds of events that the detection looks at")
	}
	return kinds
}

func parseWatch(v document.Value) []string {
	var paths []string
	v.List(maxWatched, func(v document.Value) {
		path := v.String()
		body := strings.TrimSuffix(strings.TrimSuffix(path, "/**"), "/*")
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.ContainsAny(body, "*?[") {
			v.Fail("%q must be an absolute path; it may have /* or /** at its end", path)
		}
		paths = append(paths, path)
	})
	return paths
}

// programShape is that of a file's name, without folders.
var programShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`) })

func parsePrograms(v document.Value) []string {
	var names []string
	v.List(maxPrograms, func(v document.Value) {
		name := v.String()
		if !programShape().MatchString(name) {
			v.Fail("%q is not the name of a program: write it without folders, as nc or python", name)
		}
		names = append(names, name)
	})
	return names
}
