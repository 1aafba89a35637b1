package detect_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

const right = `apiVersion: breakwater/v1
kind: Detection
id: shadow
title: Shadow read
severity: high
description: Somebody read it.
attack: [T1003.008]
events: [file_open]
watch: [/etc/shadow]
effect: alert
when: file.path == "/etc/shadow"
sentence: "{program} read {file} in {container}"
mustFire:
  - {kind: file_open, file: {path: /etc/shadow}}
mustNotFire:
  - {kind: file_open, file: {path: /etc/passwd}}
`

func loadText(texts ...string) (*detect.Rules, error) {
	files := fstest.MapFS{}
	for i, text := range texts {
		files[string(rune('a'+i))+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	return detect.Load(files)
}

func TestLoad(t *testing.T) {
	rules, err := loadText(right)
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Check(); err != nil {
		t.Error(err)
	}
	if w := rules.Watch(); len(w) != 1 || w[0] != "/etc/shadow" {
		t.Errorf("watch: %v", w)
	}
	if alwaysOn, known := rules.Known()["shadow"]; alwaysOn || !known {
		t.Error("known: not as written")
	}
	if r := rules.All()[0]; r.When() != `file.path == "/etc/shadow"` || r.Source != "a.yaml:1" {
		t.Errorf("rule: %+v", r)
	}
}

// Each mistake, made in a right file, is reported at its place.
func TestMistakes(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		text := strings.Replace(right, old, new, 1)
		if text == right {
			t.Fatalf("%q is not in the file", old)
		}
		_, err := loadText(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got\n%v\nwant %s", new, err, want)
		}
	}
	f("id: shadow", "id: No ID", "a.yaml:3:5: id: ")
	f("title: Shadow read\n", "", "a.yaml:1:1: title: is missing")
	f("severity: high", "severity: huge", `a.yaml:5:11: severity: "huge" is none of low, medium, high, critical`)
	f("T1003.008", "1003", "a.yaml:7:10: attack[0]: ")
	f("[file_open]", "[file_opened]", "a.yaml:8:10: events[0]: ")
	f("[file_open]", "[]", "a.yaml:8:9: events: is empty")
	f("/etc/shadow]", "/etc/*/shadow]", "a.yaml:9:9: watch[0]: ")
	f("effect: alert", "effect: block", "only a mechanism in the kernel can block")
	f("effect: alert", "effect: isolate", "a.yaml:10:9: effect: ")
	f("file.path ==", "file.pth ==", "a.yaml:11:11: when: in the condition: undefined field 'pth'")
	f(`file.path == "/etc/shadow"`, `file.path`, "a condition must be true or false")
	f("{program}", "{prog}", "{prog} is no fact of an event")
	f(`{container}"`, `{container}."`, "must not end in a full stop")
	f("path: /etc/passwd", "pth: /etc/passwd", `a.yaml:16:5: mustNotFire[0]: is not an event: json: unknown field "pth"`)
	f("{kind: file_open, file: {path: /etc/passwd}}", "{file: {path: /etc/passwd}}", "is an event without a kind")
	f("effect: alert", "effect: alert\nkernel: magic", "kernel: ")
	f("effect: alert", "effect: alert\nprograms: [/bin/nc]", `a.yaml:11:12: programs[0]: "/bin/nc" is not the name of a program`)
	f("effect: alert", "effect: alert\ncontrol: magic", `a.yaml:11:10: control: "magic" is none of exec, network`)
	f("effect: alert", "effect: alert\npriority: 3", "a.yaml:11:1: priority: unknown field")
	f("effect: alert", "effect: alert\nalwaysOn: perhaps", "neither true nor false")
	f("path: /etc/passwd", "path: 3", "is not an event")
}

func TestTwoOfOneID(t *testing.T) {
	_, err := loadText(right, right)
	if err == nil || !strings.Contains(err.Error(), `b.yaml:1:1: the id "shadow" is taken by a.yaml:1`) {
		t.Errorf("got %v", err)
	}
}

// TestOneBadFileSpoilsNoOther: it is left out whole and named, the others run.
func TestOneBadFileSpoilsNoOther(t *testing.T) {
	named := func(id string) string { return strings.Replace(right, "id: shadow", "id: "+id, 1) }
	costly := strings.Replace(named("costly"), `file.path == "/etc/shadow"`, strings.Repeat(`file.path.matches("(x+x+)+y(a|b|c|d)*e{1,90}") || `, 60)+"false", 1)
	files := fstest.MapFS{
		"a.yaml": {Data: []byte(right)},
		"b.yaml": {Data: []byte("apiVersion: [")},
		"c.yaml": {Data: []byte(named("half") + "---\n" + strings.Replace(named("other"), "file.path", "file.pth", 1))},
		"d.yaml": {Data: []byte(costly)},
		"e.yaml": {Data: []byte(right)}, // its id is taken
		"f.yaml": {Data: []byte(named("second"))},
		"g.yaml": {Data: []byte{0xff, 0xfe}},
	}
	rules, left := detect.LoadRight(files)
	var ids []string
	for _, r := range rules.All() {
		ids = append(ids, r.ID)
	}
	if got := strings.Join(ids, " "); got != "second shadow" {
		t.Errorf("loaded %s", got)
	}
	if len(left) != 5 {
		t.Fatalf("left out: %v", left)
	}
	for i, want := range []string{"b.yaml", "c.yaml", "d.yaml", "e.yaml", "g.yaml"} {
		if !strings.Contains(left[i].Error(), want) {
			t.Errorf("left out: %v, want %s named", left[i], want)
		}
	}
	if !strings.Contains(left[2].Error(), "units of work") {
		t.Errorf("a costly one: %v", left[2])
	}
	engine := detect.NewEngine(rules)
	ev := event.Event{Key: "k", Kind: event.KindFileOpen, Container: &event.Container{ID: "c"}, File: &event.File{Path: "/etc/shadow"}}
	if got := engine.Event(ev, policy.Run{}, nil); len(got) != 2 {
		t.Errorf("%d incidents", len(got))
	}
	if _, err := detect.Load(files); err == nil {
		t.Error("the program's own detections load with mistakes")
	}
}

// TestManyDetectionsCostNoMoreThanTheirShare: each is cheap enough, all are not.
func TestManyDetectionsCostNoMoreThanTheirShare(t *testing.T) {
	files := fstest.MapFS{}
	for i := range 60 {
		text := strings.Replace(right, "id: shadow", fmt.Sprintf("id: shadow-%02d", i), 1)
		text = strings.Replace(text, `file.path == "/etc/shadow"`, `file.path.matches("^/(etc|srv|opt)/.*(shadow|gshadow|passwd)[0-9]{0,9}$")`, 1)
		text = strings.Replace(text, `matches("`, `matches("(a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v|w|x|y|z){0,9}(a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v|w|x|y|z){0,9}`, 1)
		files[fmt.Sprintf("%02d.yaml", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	rules, left := detect.LoadRight(files)
	if n := len(rules.All()); n == 0 || n+len(left) != 60 || len(left) == 0 {
		t.Fatalf("%d loaded, %d left out", n, len(left))
	}
	if !strings.Contains(left[0].Error(), "units of work for one event") {
		t.Error(left[0])
	}
}

func TestNothingToLoad(t *testing.T) {
	if _, err := loadText(); err == nil {
		t.Error("an empty folder loads")
	}
}

// Check must see a rule that fires too seldom, too often, or on events that
// it never gets.
func TestCheckTriesTheExamples(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`file.path == "/etc/shadow"`, `file.path == "/etc/shadow-"`, "a.yaml:14: shadow does not fire"},
		{`file.path == "/etc/shadow"`, `file.path.startsWith("/etc/")`, "a.yaml:16: shadow must not fire"},
		{"events: [file_open]", "events: [exec]", "a.yaml:14: shadow does not fire"},
		{"  - {kind: file_open, file: {path: /etc/passwd}}", "  []", "has no mustFire or no mustNotFire"},
	} {
		rules, err := loadText(strings.Replace(right, c.old, c.new, 1))
		if err != nil {
			t.Fatalf("%s: %v", c.new, err)
		}
		if err := rules.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.new, err, c.want)
		}
	}
}

// The shipped policies name detections that exist.
func TestShippedPoliciesNameShippedDetections(t *testing.T) {
	known := load(t).Known()
	for _, name := range []string{"baseline.yaml", "strict.yaml"} {
		data, err := fs.ReadFile(content.Policies(), name)
		if err != nil {
			t.Fatal(err)
		}
		policies, err := policy.Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range policies {
			if err := p.CheckDetections(known); err != nil {
				t.Error(err)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(right)
	names, err := fs.Glob(content.Detections(), "*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(content.Detections(), name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := loadText(text)
		if err != nil {
			return
		}
		_ = rules.Check()
		engine := detect.NewEngine(rules)
		engine.Event(reverseShell("k"), policy.Run{}, nil)
		engine.Event(miner("k"), policy.Run{}, nil)
	})
}

// The example of docs/detections.md is a detection that passes its own check.
func TestTheManualsExampleIsRight(t *testing.T) {
	manual, err := os.ReadFile("../../docs/detections.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```yaml\n")
	text, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the example is gone")
	}
	rules, err := loadText(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Check(); err != nil {
		t.Error(err)
	}
	for _, r := range load(t).All() {
		row := fmt.Sprintf("| `%s` |", r.ID)
		if !strings.Contains(string(manual), row) {
			t.Errorf("the table has no row %s", row)
		}
	}
}
