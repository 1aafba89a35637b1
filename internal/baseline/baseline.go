// Package baseline holds what was found in an image before and is accepted
// until a day, so that a build fails for what is new. It is a file beside the
// code, made by a scan and kept by people. What policy allows for everybody is
// not its matter: that is an exception of the policy.
package baseline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// Bounds of a file.
const (
	MaxSize    = 32 << 20 // bytes
	maxEntries = 100_000
)

const version = "breakwater-baseline/v1"

// Baseline is what is accepted. It does not change and is safe for concurrent
// use.
type Baseline struct {
	entries []Entry
	index   map[string]int
}

// Entry accepts one thing. Exactly one of Vulnerability, Secret and
// Misconfiguration is set; malware is never accepted.
type Entry struct {
	Vulnerability    string `json:"vulnerability,omitempty"`
	Secret           string `json:"secret,omitempty"`           // the rule's id
	Misconfiguration string `json:"misconfiguration,omitempty"` // the check's id
	Ecosystem        string `json:"ecosystem,omitempty"`        // of the package, without the release
	Package          string `json:"package,omitempty"`
	// Path of the package's evidence or of the place; empty for packages of a
	// distribution, whose evidence is one file for all.
	Path   string `json:"path,omitempty"`
	Until  string `json:"until"` // the last day, as 2027-03-01, UTC
	Reason string `json:"reason,omitempty"`
}

type file struct {
	Version string  `json:"version"`
	Entries []Entry `json:"entries"`
}

// Parse reads a file. Its errors name the entry by its number, from 1.
func Parse(data []byte) (*Baseline, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("is larger than %d bytes", MaxSize)
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("is no baseline: %w", err)
	}
	if dec.More() {
		return nil, errors.New("is no baseline: something follows its end")
	}
	if f.Version != version {
		return nil, fmt.Errorf("is no baseline: its version is %q, not %q", f.Version, version)
	}
	if len(f.Entries) > maxEntries {
		return nil, fmt.Errorf("has more than %d entries", maxEntries)
	}
	b := &Baseline{entries: f.Entries, index: map[string]int{}}
	for i := range b.entries {
		e := &b.entries[i]
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if first, ok := b.index[e.key()]; !ok || e.Until > b.entries[first].Until {
			b.index[e.key()] = i
		}
	}
	return b, nil
}

func (e *Entry) check() error {
	kinds := 0
	for _, id := range []string{e.Vulnerability, e.Secret, e.Misconfiguration} {
		if id != "" {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("has not exactly one of vulnerability, secret, misconfiguration")
	}
	if e.Vulnerability != "" && e.Package == "" {
		return errors.New("names no package")
	}
	if _, err := time.Parse(time.DateOnly, e.Until); err != nil {
		return fmt.Errorf("until %q is not a date: write it as 2027-03-01", e.Until)
	}
	return nil
}

// ends is the first moment at which the entry no longer counts; Parse has read
// its date.
func (e *Entry) ends() time.Time {
	day, _ := time.Parse(time.DateOnly, e.Until)
	return day.AddDate(0, 0, 1)
}

func (e *Entry) key() string {
	return strings.Join([]string{e.Vulnerability, e.Secret, e.Misconfiguration, e.Ecosystem, e.Package, e.Path}, "\x00")
}

func entryOf(f *event.Finding) Entry {
	ecosystem, _, release := strings.Cut(f.Package.Ecosystem, ":")
	e := Entry{Vulnerability: f.ID, Ecosystem: ecosystem, Package: f.Package.Name}
	if !release { // only distributions have releases
		e.Path = f.Package.Path
	}
	return e
}

func entryOfSecret(s *event.Secret) Entry {
	return Entry{Secret: s.Rule, Path: s.Place.Kind + ":" + s.Place.Path}
}

func entryOfMisconfiguration(m *event.Misconfiguration) Entry {
	return Entry{Misconfiguration: m.ID, Package: m.Resource, Path: m.Place.Kind + ":" + m.Place.Path}
}

// accepts is the entry that accepts e, nil when there is none or it ended.
func (b *Baseline) accepts(now time.Time, e Entry) *Entry {
	i, ok := b.index[e.key()]
	if !ok || !now.Before(b.entries[i].ends()) {
		return nil
	}
	return &b.entries[i]
}

// Ended counts the entries that no longer count.
func (b *Baseline) Ended(now time.Time) (n int) {
	for i := range b.entries {
		if !now.Before(b.entries[i].ends()) {
			n++
		}
	}
	return n
}

// Facts is what policy judges when what is accepted does not count.
func (b *Baseline) Facts(now time.Time, f policy.ImageFacts) policy.ImageFacts {
	f.Findings = keep(f.Findings, func(x *event.Finding) bool { return b.accepts(now, entryOf(x)) == nil })
	f.Secrets = keep(f.Secrets, func(x *event.Secret) bool { return b.accepts(now, entryOfSecret(x)) == nil })
	f.Misconfigurations = keep(f.Misconfigurations, func(x *event.Misconfiguration) bool { return b.accepts(now, entryOfMisconfiguration(x)) == nil })
	return f
}

func keep[T any](all []T, is func(*T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !is(&x) })
}

// Apply moves what is accepted at r.Time to r.Accepted.
func (b *Baseline) Apply(r *report.Report) {
	accept := func(e *Entry, a report.Accepted) bool {
		if e == nil {
			return true
		}
		a.Reason, a.Until = e.Reason, e.ends().AddDate(0, 0, -1)
		r.Accepted = append(r.Accepted, a)
		return false
	}
	r.Findings = keep(r.Findings, func(x *event.Finding) bool {
		return accept(b.accepts(r.Time, entryOf(x)), report.Accepted{Finding: x})
	})
	r.Secrets = keep(r.Secrets, func(x *event.Secret) bool {
		return accept(b.accepts(r.Time, entryOfSecret(x)), report.Accepted{Secret: x})
	})
	r.Misconfigurations = keep(r.Misconfigurations, func(x *event.Misconfiguration) bool {
		return accept(b.accepts(r.Time, entryOfMisconfiguration(x)), report.Accepted{Misconfiguration: x})
	})
}

// Write writes a baseline that accepts everything in r until the end of a day.
// What r's own baseline accepts stays as it is.
func Write(w io.Writer, r *report.Report, until time.Time, reason string) error {
	f := file{Version: version, Entries: []Entry{}}
	seen := map[string]bool{}
	add := func(e Entry, until time.Time, reason string) {
		e.Until, e.Reason = until.UTC().Format(time.DateOnly), reason
		if !seen[e.key()] {
			seen[e.key()] = true
			f.Entries = append(f.Entries, e)
		}
	}
	for _, a := range r.Accepted {
		switch {
		case a.Finding != nil:
			add(entryOf(a.Finding), a.Until, a.Reason)
		case a.Secret != nil:
			add(entryOfSecret(a.Secret), a.Until, a.Reason)
		case a.Misconfiguration != nil:
			add(entryOfMisconfiguration(a.Misconfiguration), a.Until, a.Reason)
		}
	}
	for i := range r.Findings {
		add(entryOf(&r.Findings[i]), until, reason)
	}
	for i := range r.Secrets {
		add(entryOfSecret(&r.Secrets[i]), until, reason)
	}
	for i := range r.Misconfigurations {
		add(entryOfMisconfiguration(&r.Misconfigurations[i]), until, reason)
	}
	slices.SortFunc(f.Entries, func(a, b Entry) int { return strings.Compare(a.key(), b.key()) })
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(f)
}
