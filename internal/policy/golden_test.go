package policy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

var update = flag.Bool("update", false, "write what comes out as the golden text; read it before you commit it")

// TestErrors holds each malformed policy against the errors that people see.
func TestErrors(t *testing.T) {
	eachArchive(t, "testdata/errors/*.txtar", func(t *testing.T, files map[string][]byte) string {
		policies, err := policy.Parse("policy.yaml", files["policy.yaml"])
		if err == nil {
			return fmt.Sprintf("no error: %d policies\n", len(policies))
		}
		return err.Error() + "\n"
	})
}

// TestVerdicts holds questions against the answers of the language.
func TestVerdicts(t *testing.T) {
	eachArchive(t, "testdata/verdicts/*.txtar", func(t *testing.T, files map[string][]byte) string {
		set := newSet(t, parse(t, string(files["policy.yaml"])))
		names := make([]string, 0, len(files))
		for name := range files {
			names = append(names, name)
		}
		sort.Strings(names)
		var out strings.Builder
		for _, name := range names {
			kind, _, isFacts := strings.Cut(name, "-")
			if !isFacts || !strings.HasSuffix(name, ".json") {
				continue
			}
			fmt.Fprintf(&out, "# %s\n%s", strings.TrimSuffix(name, ".json"), answer(t, set, kind, files[name]))
		}
		return out.String()
	})
}

func answer(t *testing.T, set *policy.Set, kind string, facts []byte) string {
	t.Helper()
	switch kind {
	case "image":
		return showVerdict(set.Image(now, decode[policy.ImageFacts](t, facts)))
	case "start":
		return showVerdict(set.Start(now, decode[policy.StartFacts](t, facts)))
	case "run":
		return showRun(set.Run(now, decode[policy.Subject](t, facts)), "")
	}
	t.Fatalf("%q is none of image, start, run", kind)
	return ""
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("facts: %v", err)
	}
	return v
}

func eachArchive(t *testing.T, pattern string, produce func(*testing.T, map[string][]byte) string) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives at %s (%v)", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			got := produce(t, files)
			if *update {
				setFile(archive, "want", got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(files["want"]); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func setFile(a *txtar.Archive, name, data string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(data)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

func showVerdict(v event.Verdict) string {
	var b strings.Builder
	word := "refused"
	if v.Allowed {
		word = "allowed"
	}
	fmt.Fprintf(&b, "%s by %s\n", word, strings.Join(v.Policies, ", "))
	for _, x := range v.Violations {
		mode := "enforce"
		if x.Audit {
			mode = "audit"
		}
		fmt.Fprintf(&b, "  %s %s %s %s: %s\n", mode, x.Policy, x.Rule, x.Source, x.Message)
		if x.Remediation != "" {
			fmt.Fprintf(&b, "    fix: %s\n", x.Remediation)
		}
	}
	for _, s := range v.Incomplete {
		fmt.Fprintf(&b, "  incomplete: %s\n", s)
	}
	return b.String()
}

func showRun(r policy.Run, indent string) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, indent+format+"\n", args...) }
	say("policies %v audit %v respond %v", r.Policies, r.Audit, r.Respond)
	for _, s := range []struct {
		name string
		is   policy.Switch
	}{{"drift", r.Drift}, {"fileless", r.Fileless}} {
		if s.is.On {
			say("  %s %s audit %v by %s %s", s.name, s.is.Effect, s.is.Audit, s.is.Policy, s.is.Source)
		}
	}
	if r.Exec.Effect != "" {
		say("  exec %s audit %v restrict %v by %v", r.Exec.Effect, r.Exec.Audit, r.Exec.Restrict, r.Exec.By)
		for _, p := range r.Exec.Allow {
			say("    allow %s by %s %s", p.Pattern, p.Policy, p.Source)
		}
		for _, p := range r.Exec.Deny {
			say("    deny %s by %s %s", p.Pattern, p.Policy, p.Source)
		}
	}
	if r.Files.Effect != "" {
		say("  files %s audit %v", r.Files.Effect, r.Files.Audit)
		for _, p := range r.Files.Deny {
			say("    deny %s by %s %s", p.Pattern, p.Policy, p.Source)
		}
		for _, p := range r.Files.ReadOnly {
			say("    readOnly %s by %s %s", p.Pattern, p.Policy, p.Source)
		}
	}
	for _, l := range r.Resources.Limits {
		say("  resource %s %d %s audit %v by %s %s", l.Resource, l.Most, l.Effect, r.Resources.Audit, l.Policy, l.Source)
	}
	if r.Network.Effect != "" {
		say("  network %s audit %v restrict %v by %v", r.Network.Effect, r.Network.Audit, r.Network.Restrict, r.Network.By)
		for _, p := range r.Network.Egress {
			say("    egress %v %v by %s %s", p.Prefix, p.Ports, p.Policy, p.Source)
		}
		for _, p := range r.Network.Deny {
			say("    deny %v %v by %s %s", p.Prefix, p.Ports, p.Policy, p.Source)
		}
	}
	b.WriteString(showDetections(r, indent))
	if r.Audited != nil {
		say("  audited:")
		b.WriteString(showRun(*r.Audited, indent+"    "))
	}
	return b.String()
}

func showDetections(r policy.Run, indent string) string {
	var lines []string
	for id, s := range r.Detections {
		lines = append(lines, fmt.Sprintf("%s  detection %s disabled %v effect %q by %s\n", indent, id, s.Disabled, s.Effect, s.Policy))
	}
	for severity, effect := range r.DetectionEffects {
		lines = append(lines, fmt.Sprintf("%s  detections of severity %s: %s\n", indent, severity, effect))
	}
	for _, w := range r.Waivers {
		lines = append(lines, fmt.Sprintf("%s  waiver %s until %s by %s: %s\n", indent, w.Detection, w.Expires, w.Policy, w.Reason))
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}
