// Package format turns incidents into the bodies that receivers read.
//
// The JSON form, schema 1, is one object in pure ASCII (everything else is
// escaped, so that no receiver has to guess an encoding):
//
//	{"schema": 1, "vendor": "Breakwater", "type": "incident",
//	 "incident": {…}, "shortened": ["tree"]}
//
// incident is event.Incident as its JSON tags say; its key is the same in every
// delivery of one incident, for receivers to drop repetitions by. incident.story
// says what it is a step of: its key is the same in all steps, for receivers that
// want one alert for a story, and its revision, severity and sentence are how the
// story stood with this step. shortened
// names what was left out to keep within the receiver's limit; it is absent when
// nothing was.
package format

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Schema is the version of the JSON form.
const Schema = 1

// MinSize is the least limit that JSON can always keep, in bytes.
const MinSize = 1024

type document struct {
	Schema    int            `json:"schema"`
	Vendor    string         `json:"vendor"`
	Type      string         `json:"type"`
	Incident  event.Incident `json:"incident"`
	Shortened []string       `json:"shortened,omitempty"`
}

// JSON writes an incident in at most limit bytes (MinSize at least). What does
// not fit is left out, the least telling first.
func JSON(i event.Incident, limit int) ([]byte, error) {
	limit = max(limit, MinSize)
	d := document{Schema: Schema, Vendor: "Breakwater", Type: "incident", Incident: i}
	var err error
	for _, cut := range cuts() {
		cut.do(&d.Incident)
		if cut.name != "" {
			d.Shortened = append(d.Shortened, cut.name)
		}
		var b []byte
		if b, err = encode(d); err == nil && len(b) <= limit {
			return b, nil
		}
	}
	return nil, fmt.Errorf("incident %q as JSON in %d bytes: %w", short(i.Key, keepText), limit, err)
}

// cut is one way to make an incident smaller. Cuts never change what the caller
// holds: they replace slices, maps and pointers.
type cut struct {
	name string
	do   func(*event.Incident)
}

// cuts are in the order in which they are made, each on top of those before it.
// After the last one every incident fits into MinSize.
func cuts() []cut {
	return []cut{{"", func(*event.Incident) {}}, {"arguments", arguments}, {"labels", labels}, {"tree", tree},
		{"event", evidence}, {"container", container}, {"story", story}, {"texts", texts}, {"everything", everything}}
}

const (
	keepArgs = 4
	keepText = 64 // bytes
)

func arguments(i *event.Incident) {
	shorten := func(p event.Process) event.Process {
		p.Args = append([]string(nil), p.Args[:min(len(p.Args), keepArgs)]...)
		for n := range p.Args {
			p.Args[n] = short(p.Args[n], keepText)
		}
		return p
	}
	processes := make([]event.Process, 0, len(i.Tree))
	for _, p := range i.Tree {
		processes = append(processes, shorten(p))
	}
	i.Tree = processes
	if i.Event.Process != nil {
		p := shorten(*i.Event.Process)
		i.Event.Process = &p
	}
}

func labels(i *event.Incident) {
	strip := func(c *event.Container) *event.Container {
		if c == nil {
			return nil
		}
		stripped := *c
		stripped.Labels = nil
		return &stripped
	}
	i.Container, i.Event.Container = strip(i.Container), strip(i.Event.Container)
}

// tree keeps the process itself and its nearest ancestors.
func tree(i *event.Incident) { i.Tree = i.Tree[max(0, len(i.Tree)-2):] }

func evidence(i *event.Incident) {
	i.Event = event.Event{Key: short(i.Event.Key, keepText), Kind: i.Event.Kind, Time: i.Event.Time}
	i.Responses = nil
}

func container(i *event.Incident) {
	i.Tree = nil
	if c := i.Container; c != nil {
		i.Container = &event.Container{ID: short(c.ID, keepText), Name: short(c.Name, keepText),
			Image: event.Image{Digest: short(c.Image.Digest, 71), Platform: short(c.Image.Platform, keepText)}}
	}
}

// story keeps what receivers join by.
func story(i *event.Incident) {
	if s := i.Story; s != nil {
		i.Story = &event.Story{Key: short(s.Key, keepText), Step: s.Step, Revision: s.Revision, Severity: event.Severity(short(string(s.Severity), 16)), Started: s.Started, Steps: s.Steps, Stopped: s.Stopped}
	}
}

func texts(i *event.Incident) {
	i.Story = nil
	i.Container, i.Attack = nil, nil
	i.Event = event.Event{Kind: event.Kind(short(string(i.Event.Kind), 16)), Time: i.Event.Time}
	i.Agent, i.Host, i.Detection = short(i.Agent, 16), short(i.Host, 32), short(i.Detection, 32)
	i.Title, i.Sentence = short(i.Title, 32), short(i.Sentence, 64)
	i.Decision = event.Decision{Control: event.Control(short(string(i.Decision.Control), 16)),
		Effect: event.Effect(short(string(i.Decision.Effect), 16)), Outcome: event.Outcome(short(string(i.Decision.Outcome), 16))}
	i.Severity = event.Severity(short(string(i.Severity), 16))
}

// everything leaves what tells that there is an incident and how bad it is. A key
// of unusual length is replaced by its hash, the same in every delivery.
func everything(i *event.Incident) {
	rest := event.Incident{Key: i.Key, Severity: event.SeverityUnknown}
	if len(i.Key) > keepText {
		rest.Key = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(i.Key)))
	}
	if i.Severity.Rank() >= 0 {
		rest.Severity = i.Severity
	}
	if y := i.Time.UTC().Year(); y > 0 && y < 10000 {
		rest.Time = i.Time.UTC()
	}
	*i = rest
}

// short cuts s to at most n bytes plus a mark, at a character.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// encode writes JSON with every character beyond ASCII escaped.
func encode(d document) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	out.Grow(len(b))
	for _, r := range string(b) {
		switch {
		case r < utf8.RuneSelf && r != 0x7f:
			out.WriteByte(byte(r))
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		}
	}
	return []byte(out.String()), nil
}
