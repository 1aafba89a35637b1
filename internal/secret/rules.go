// Package secret finds credentials in text: in the files of an image, its
// environment, its labels and its build steps. What it knows stands as data in
// content/secrets; the value of a secret never leaves the package.
package secret

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Rule knows one kind of secret.
type Rule struct {
	ID, Title string
	Severity  event.Severity
	// Keywords, of at least minKeyword characters: a text without any of them
	// is not looked at. One without capitals is met in any case; one of three
	// characters stands before a letter, a digit, "_" or "-".
	Keywords []string
	// Find are texts that hold one such secret and Pass texts that hold none.
	// {CLASS:N} stands for N random characters, so that nothing that looks like
	// a key stands in a file of ours.
	Find, Pass []string

	// pattern is the regular expression; its first group, if any, is the value.
	pattern       string
	before, after int     // bytes of text around a keyword that may belong to it
	entropy       float64 // least bits per character of the value
	allow         string  // of values that are none
	places        string  // kinds of places, "" for all
	file          string  // pattern of paths of files, "" for all
	example       string  // path that file matches, for samples
	generic       bool    // gives way to every other rule

	compile func() *compiled
}

// compiled is made when a keyword of the rule is met for the first time.
type compiled struct {
	pattern, allow, file *regexp.Regexp
}

// The bounds of the rules' files.
const (
	maxRules   = 2_000
	maxSamples = 20
	minKeyword = 3
	maxAround  = 4096
)

// Where a value may belong to a keyword when the rule says nothing.
const (
	defaultBefore = 64
	defaultAfter  = 320
)

// Version changes whenever the built-in rules do.
func Version() string { return version() }

var version = sync.OnceValue(func() string {
	h := sha256.New()
	for _, name := range files() {
		data, err := fs.ReadFile(content.Secrets(), name)
		_, _ = fmt.Fprintf(h, "%q %v %q", name, err, data)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
})

func files() []string {
	names, err := fs.Glob(content.Secrets(), "*.yaml")
	if err != nil { // only for a malformed pattern, and ours is a constant
		panic(err)
	}
	return names
}

// Rules gives the built-in ones.
func Rules() ([]Rule, error) {
	names := files()
	each := make([][]Rule, len(names))
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			data, err := fs.ReadFile(content.Secrets(), name)
			if err != nil {
				return err
			}
			each[i], err = parse(path.Join("secrets", name), data, trusted)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(each...)
	seen := map[string]bool{}
	for _, r := range all {
		if seen[r.ID] {
			return nil, fmt.Errorf("two secret rules are named %s: rename one", r.ID)
		}
		seen[r.ID] = true
	}
	return all, nil
}

// Parse reads the rules of one file. The error is a document.Errors.
func Parse(name string, data []byte) ([]Rule, error) { return parse(name, data, checked) }

// expression reads a regular expression in RE2's syntax.
type expression func(document.Value) string

// trusted takes expressions as they are: those of our own files, which tests
// check, are compiled when they are needed.
func trusted(v document.Value) string { return v.Text }

func checked(v document.Value) string {
	s := v.String()
	if _, err := regexp.Compile(s); err != nil {
		v.Fail("%v", err)
	}
	return s
}

func parse(name string, data []byte, read expression) ([]Rule, error) {
	docs, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	r := document.NewReader(name)
	var rules []Rule
	for _, doc := range docs {
		root := r.Value(doc)
		root.Map(document.Fields{
			"apiVersion": func(v document.Value) { v.Word("breakwater/v1") },
			"kind":       func(v document.Value) { v.Word("SecretRules") },
			"rules": func(v document.Value) {
				v.List(maxRules, func(v document.Value) { rules = append(rules, parseRule(v, read)) })
			},
		})
		if root.Kind == document.Map {
			root.Require("apiVersion", "kind", "rules")
		}
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return rules, nil
}

func parseRule(v document.Value, expression expression) Rule {
	r := Rule{before: defaultBefore, after: defaultAfter}
	var named, value string
	ok := v.Map(document.Fields{
		"id":       func(v document.Value) { r.ID = ruleID(v) },
		"title":    func(v document.Value) { r.Title = v.String() },
		"severity": func(v document.Value) { r.Severity = event.Severity(v.Word("low", "medium", "high", "critical")) },
		"keywords": func(v document.Value) { r.Keywords = keywords(v) },
		"regexp":   func(v document.Value) { r.pattern = expression(v) },
		"named":    func(v document.Value) { named = expression(v) },
		"value":    func(v document.Value) { value = expression(v) },
		"before":   func(v document.Value) { r.before = v.Int(0, maxAround) },
		"after":    func(v document.Value) { r.after = v.Int(0, maxAround) },
		"entropy":  func(v document.Value) { r.entropy = number(v) },
		"allow":    func(v document.Value) { r.allow = expression(v) },
		"places":   func(v document.Value) { r.places = v.Word("config", "file") },
		"file":     func(v document.Value) { r.file = expression(v) },
		"example":  func(v document.Value) { r.example = v.String() },
		"generic":  func(v document.Value) { r.generic = v.Bool() },
		"find":     func(v document.Value) { r.Find = v.Strings(maxSamples) },
		"pass":     func(v document.Value) { r.Pass = v.Strings(maxSamples) },
	})
	if !ok {
		return r
	}
	v.Require("id", "title", "severity", "keywords", "find")
	switch {
	case (r.pattern == "") == (named == ""), (named == "") != (value == ""):
		v.Fail("give either regexp, or both named and value")
	case named != "":
		r.pattern = assigned(named, value)
	}
	r.compile = sync.OnceValue(func() *compiled {
		return &compiled{regexp.MustCompile(r.pattern), optional(r.allow), optional(r.file)}
	})
	return r
}

// assigned is the expression of a value that is given to a name: in
// configuration of any syntax, in code, on a command line.
func assigned(name, value string) string {
	return `(?i:` + name + `)[\w.-]{0,40}["'\])` + "`" + `]{0,2}[ \t]{0,8}(?::=|=>|[:=>,]|[ \t])[ \t]{0,8}["'` + "`" + `]?(` + value + `)(?:[^0-9A-Za-z_+/=-]|\z)`
}

func optional(expression string) *regexp.Regexp {
	if expression == "" {
		return nil
	}
	return regexp.MustCompile(expression)
}

var ruleIDs = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`) })

func ruleID(v document.Value) string {
	id := v.String()
	if !ruleIDs().MatchString(id) {
		v.Fail("%q is not an id: use small letters, digits and single hyphens", id)
	}
	return id
}

func keywords(v document.Value) []string {
	list := v.Strings(100)
	for _, k := range list {
		if len(k) < minKeyword || len(k) > maxAround/2 {
			v.Fail("keyword %q: it needs at least %d characters", k, minKeyword)
		}
	}
	if len(list) == 0 {
		v.Fail("is empty")
	}
	return list
}

func number(v document.Value) float64 {
	f, err := strconv.ParseFloat(v.Text, 64)
	if v.Kind != document.Number || err != nil || !(f >= 0 && f <= 8) {
		v.Fail("is not a number from 0 to 8")
	}
	return f
}

// takes says whether the rule is for that place at all.
func (r *Rule) takes(kind, path string) bool {
	switch r.places {
	case "config":
		if kind == event.PlaceFile {
			return false
		}
	case "file":
		if kind != event.PlaceFile {
			return false
		}
	}
	return r.file == "" || kind == event.PlaceFile && r.compile().file.MatchString(path)
}

// compare orders rules so that those that give way come last.
func compare(a, b *Rule) int {
	if a.generic != b.generic {
		if a.generic {
			return 1
		}
		return -1
	}
	return cmp.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID))
}

// SamplePlace is the kind of place, and the path, that the rule's samples are
// to be looked for at.
func (r *Rule) SamplePlace() (kind, path string) {
	if r.places == "config" {
		return event.PlaceEnv, ""
	}
	return event.PlaceFile, cmp.Or(r.example, "srv/app/settings.txt")
}
