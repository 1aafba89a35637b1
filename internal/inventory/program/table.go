// Package program knows the programs that images carry outside of any package
// manager, by evidence in their files: content/programs/programs.yaml says
// which names, which text beside the version, and how the version reads.
package program

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Program is one entry of the table.
type Program struct {
	Name       string
	Advisories string // its name at Bitnami; empty when that has none
	Files      []string
	Text       bool
	Examples   []Example
	evidence   []evidence
}

// Example is evidence that an entry comes with, and the version it proves.
type Example struct{ File, Text, Version string }

type evidence struct {
	find, pattern, as string
	version           *regexp.Regexp // made for one file, when its text is found
}

// Table is the programs by the names of their files. It is immutable.
type Table struct {
	programs []Program
	exact    map[string][]*Program
	prefixes map[[3]byte][]prefix // by their first bytes
	texts    map[string][]*Program
}

type prefix struct {
	text    string
	program *Program
}

// Embedded reads the table that this binary carries. That takes milliseconds,
// so callers do it once, when they need it.
func Embedded() *Table {
	const name = "programs.yaml"
	data, err := fs.ReadFile(content.Programs(), name)
	if err != nil { // it is ours, and tests read it
		panic(err)
	}
	t, err := parse(name, data, false)
	if err != nil {
		panic(err)
	}
	return t
}

// Parse reads a table and checks its patterns. Errors name the file and the line.
func Parse(name string, data []byte) (*Table, error) { return parse(name, data, true) }

func parse(name string, data []byte, check bool) (*Table, error) {
	docs, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: must be one document, not %d", name, len(docs))
	}
	t := &Table{exact: map[string][]*Program{}, prefixes: map[[3]byte][]prefix{}, texts: map[string][]*Program{}}
	r := document.NewReader(name)
	v := r.Value(docs[0])
	v.Map(document.Fields{
		"apiVersion": func(v document.Value) { v.Word("breakwater/v1") },
		"kind":       func(v document.Value) { v.Word("Programs") },
		"programs": func(v document.Value) {
			v.List(1000, func(v document.Value) { t.programs = append(t.programs, parseProgram(v, check)) })
		},
	})
	if err := r.Err(); err != nil {
		return nil, err
	}
	t.index()
	return t, nil
}

func parseProgram(v document.Value, check bool) (p Program) {
	if !v.Map(document.Fields{
		"name":       func(v document.Value) { p.Name = v.String() },
		"advisories": func(v document.Value) { p.Advisories = v.String() },
		"files":      func(v document.Value) { p.Files = parseFiles(v) },
		"text":       func(v document.Value) { p.Text = v.Bool() },
		"evidence": func(v document.Value) {
			v.List(10, func(v document.Value) { p.evidence = append(p.evidence, parseEvidence(v, check)) })
		},
		"examples": func(v document.Value) {
			v.List(20, func(v document.Value) { p.Examples = append(p.Examples, parseExample(v)) })
		},
	}) {
		return p
	}
	v.Require("name", "files", "evidence", "examples")
	return p
}

func parseFiles(v document.Value) []string {
	files := v.Strings(20)
	for _, f := range files {
		if stem, open := strings.CutSuffix(f, "*"); open && len(stem) < 3 || strings.Contains(stem, "*") {
			v.Fail("%q: a * stands at the end, behind three letters at least", f)
		}
	}
	return files
}

func parseEvidence(v document.Value, check bool) (e evidence) {
	v.Map(document.Fields{
		"find":    func(v document.Value) { e.find = v.String() },
		"version": func(v document.Value) { e.pattern = v.String() },
		"as":      func(v document.Value) { e.as = v.String() },
	})
	v.Require("find", "version")
	if !check {
		return e
	}
	re, err := regexp.Compile(strings.ReplaceAll(e.pattern, number, `1\.2`))
	if err != nil {
		v.Fail("version: %v", err)
	} else if re.NumSubexp() != 1 {
		v.Fail("version: has %d groups, must have one: (…)", re.NumSubexp())
	}
	return e
}

func parseExample(v document.Value) (e Example) {
	v.Map(document.Fields{
		"file":    func(v document.Value) { e.File = v.String() },
		"text":    func(v document.Value) { e.Text = strings.ReplaceAll(v.Text, `\0`, "\x00") },
		"version": func(v document.Value) { e.Version = v.Text },
	})
	return e
}

func (t *Table) index() {
	for i := range t.programs {
		p := &t.programs[i]
		for _, f := range p.Files {
			stem, open := strings.CutSuffix(f, "*")
			switch {
			case p.Text:
				t.texts[f] = append(t.texts[f], p)
			case open:
				key := [3]byte([]byte(stem[:3]))
				t.prefixes[key] = append(t.prefixes[key], prefix{stem, p})
			default:
				t.exact[f] = append(t.exact[f], p)
			}
		}
	}
}

// Programs is the whole table.
func (t *Table) Programs() []Program { return t.programs }

// Names says whether a file of this base name can be one of the programs. It
// does not allocate.
func (t *Table) Names(base string) bool {
	if len(t.exact[base]) > 0 {
		return true
	}
	if len(base) < 3 {
		return false
	}
	for _, p := range t.prefixes[[3]byte{base[0], base[1], base[2]}] {
		if strings.HasPrefix(base, p.text) {
			return true
		}
	}
	return false
}

// of lists the programs that a file of this base name can be.
func (t *Table) of(base string) []*Program {
	out := append([]*Program(nil), t.exact[base]...)
	if len(base) >= 3 {
		for _, p := range t.prefixes[[3]byte{base[0], base[1], base[2]}] {
			if strings.HasPrefix(base, p.text) {
				out = append(out, p.program)
			}
		}
	}
	return out
}

func (p *Program) pkg(version string) event.Package {
	if p.Advisories != "" {
		return purl.Program("Bitnami", p.Advisories, p.Name, version)
	}
	return purl.Program("generic", p.Name, p.Name, version)
}
