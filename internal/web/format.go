package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// functions are what templates may call.
func (c *Console) functions() template.FuncMap {
	return template.FuncMap{
		"clock":        func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
		"ago":          func(t time.Time) string { return ago(c.Now(), t) },
		"exact":        exact,
		"marked":       marked,
		"short":        short,
		"size":         size,
		"slug":         slug,
		"join":         strings.Join,
		"json":         indented,
		"query":        query,
		"count":        count,
		"add":          func(a, b int) int { return a + b },
		"sub":          func(a, b int) int { return a - b },
		"link":         railLink,
		"live":         func(last uint64, query string) liveLine { return liveLine{last, query} },
		"options":      options,
		"outcomeWord":  outcomeWord,
		"severityWord": severityWord,
		"why":          func(f event.Finding) string { return report.Reason(&f) },
		"gain":         func(u report.Update) string { return u.Gain() },
		"updateTitle":  func(u report.Update) string { return u.Title() },
		"registryForm": func(r ...store.Registry) store.Registry { return append(r, store.Registry{})[0] },
	}
}

// visible makes characters that change how text reads, or that a terminal
// would obey, into text: nobody can hide "…gpj.exe" behind a right-to-left
// override. It runs over finished pages, so no template can forget it.
func visible(page []byte) []byte {
	if !bytes.ContainsFunc(page, deceptive) {
		return page
	}
	var b bytes.Buffer
	for _, r := range string(page) {
		if deceptive(r) {
			fmt.Fprintf(&b, "[U+%04X]", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// deceptive are control characters but for line ends and tabs, and everything
// that is a format character: bidirectional marks and overrides, joiners, tags.
func deceptive(r rune) bool {
	return r != '\n' && r != '\t' && r != '\r' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.In(r, unicode.Zl, unicode.Zp))
}

// ago is a time relative to now, for people.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	unit := func(n int, word string) string {
		if n != 1 {
			word += "s"
		}
		return fmt.Sprintf("%d %s ago", n, word)
	}
	switch {
	case d < -time.Minute:
		return "in the future (" + exact(t) + ")"
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return unit(int(d/time.Second), "second")
	case d < time.Hour:
		return unit(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return unit(int(d/time.Hour), "hour")
	}
	return unit(int(d/(24*time.Hour)), "day")
}

func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// span is a part of a sentence.
type span struct {
	Text string
	Code bool
}

// marked splits a sentence at its `marks`; an odd mark is text.
func marked(s string) []span {
	parts := strings.Split(s, "`")
	var out []span
	for i, p := range parts {
		code := i%2 == 1
		if code && i == len(parts)-1 {
			p, code = "`"+p, false
		}
		if p != "" {
			out = append(out, span{p, code})
		}
	}
	return out
}

// short is a digest or container id as people compare it: twelve digits.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 && strings.Trim(id, "0123456789abcdef") == "" {
		return id[:12]
	}
	return id
}

func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, u := float64(n), 0
	for f >= 1000 && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	if u == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// slug is a word as a CSS class.
func slug(v any) string {
	s := strings.ToLower(fmt.Sprint(v))
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, s)
}

func indented(v any) (string, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return string(b), err
}

// query makes a link's query from name, value pairs; empty values are left out.
func query(pairs ...any) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := fmt.Sprint(pairs[i+1]); value != "" && value != "0" {
			q.Set(fmt.Sprint(pairs[i]), value)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// count is a number with its noun: 1 image, 2 images.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	if strings.HasSuffix(noun, "ss") {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s = capital(s); s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

// railWord is one word of the rail.
type railWord struct {
	Href, Word string
	Here       bool
}

func railLink(f frame, section, href, word string) railWord {
	return railWord{href, word, f.Section == section}
}

// liveLine counts what arrives after an incident and passes a filter.
type liveLine struct {
	Last  uint64
	Query string
}

// option is one choice of a list.
type option struct {
	Word, Value string
	Chosen      bool
}

// options makes a list from word, value pairs.
func options(chosen string, pairs ...string) []option {
	var out []option
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, option{pairs[i], pairs[i+1], pairs[i+1] == chosen})
	}
	return out
}

// outcomeWord is one of the four outcomes, or "unknown": an agent's own word
// never becomes a look of the console.
func outcomeWord(o event.Outcome) event.Outcome {
	switch o {
	case event.Prevented, event.Killed, event.Detected, event.NotCovered:
		return o
	}
	return "unknown"
}

func severityWord(s event.Severity) event.Severity {
	if s.Rank() < 0 {
		return event.SeverityUnknown
	}
	return s
}
