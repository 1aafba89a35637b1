package policy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

const head = "apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: x}\n"

func TestFilesThatCostTooMuchAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"size":      head + "# " + strings.Repeat("x", 300<<10),
		"flow":      head + "run: " + strings.Repeat("[", 100_000),
		"flow map":  head + "run: " + strings.Repeat("{a: ", 50_000),
		"block":     head + "run: \n  " + strings.Repeat("- ", 50_000),
		"explicit":  head + strings.Repeat("? ", 50_000),
		"indent":    head + indented(600),
		"control":   head + "scope: \"\x00\"",
		"latin1":    head + "scope: \"\xe9\"",
		"deep CEL":  head + "scope: \"" + strings.Repeat("(", 5_000) + "\"",
		"long CEL":  head + "scope: \"" + strings.Repeat("true || ", 20_000) + "true\"",
		"documents": strings.Repeat("---\na: b\n", 1_000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse("p.yaml", []byte(text))
			if err == nil {
				t.Fatal("accepted")
			}
			if len(err.Error()) > 100<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func indented(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestAnExpensiveConditionRefuses(t *testing.T) {
	set := newSet(t, parse(t, head+`
image:
  rules:
    - id: cubic
      message: too much
      deny: findings.exists(a, findings.exists(b, findings.exists(c, a.id == "x" && b.id == "y" && c.id == "z")))
`))
	findings := make([]event.Finding, 3_000)
	v := set.Image(now, policy.ImageFacts{Scanned: true, Judged: true, Findings: findings})
	if v.Allowed || !strings.Contains(v.Violations[0].Message, "cost") {
		t.Errorf("a condition without an answer must refuse: %+v", v)
	}
}

func TestNewSetNamesTwins(t *testing.T) {
	a, b := parse(t, head), parse(t, head)
	if _, err := policy.NewSet(1, append(a, b...)); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("two policies of one name: %v", err)
	}
}

func TestTheEmptySetAllowsEverything(t *testing.T) {
	set := newSet(t, nil)
	if v := set.Start(now, policy.StartFacts{Privileged: true}); !v.Allowed || v.Generation != 7 {
		t.Errorf("start: %+v", v)
	}
	if r := set.Run(now, policy.Subject{}); r.Respond || r.Audit || r.Drift.On {
		t.Errorf("run: %+v", r)
	}
}

// More names than anybody looks at must not lead out of a scope or a rule, nor
// into an exception.
func TestTooManyNames(t *testing.T) {
	set := newSet(t, parse(t, head+`
scope: image.repository == "evil"
image:
  rules: [{id: r, deny: image.tag == "latest", message: m}]
exceptions:
  - {match: image.repository.startsWith("x"), reason: r, expires: 2027-01-01}
`))
	facts := policy.ImageFacts{Scanned: true, Judged: true}
	for i := range 501 {
		facts.Image.References = append(facts.Image.References, fmt.Sprintf("x/%d:1", i))
	}
	if v := set.Image(now, facts); v.Allowed || !strings.Contains(v.Violations[0].Message, "more than 500 names") {
		t.Errorf("%+v", v)
	}
	facts.Image.References = facts.Image.References[:500]
	if v := set.Image(now, facts); !v.Allowed || len(v.Policies) != 0 {
		t.Errorf("%+v", v)
	}
}

func TestConcurrentUse(t *testing.T) {
	set := shipped(t, "strict.yaml")
	facts := policy.ImageFacts{Scanned: true, Judged: true, Findings: []event.Finding{{ID: "CVE-2024-0001", Severity: "critical"}}}
	facts.Image.References = []string{"registry.acme.example/payments/api:1"}
	facts.Config.User = "app"
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				if v := set.Image(now, facts); !v.Allowed {
					t.Errorf("%+v", v.Violations)
				}
				if v := set.Start(now, policy.StartFacts{Subject: facts.Subject}); v.Allowed {
					t.Error("a container without limits passes")
				}
				set.Run(now, facts.Subject)
			}
		})
	}
	group.Wait()
}

func TestStages(t *testing.T) {
	p := parse(t, head+"mode: {production: enforce, staging: audit}")[0]
	q := parse(t, head+"mode: {default: audit, production: enforce}")[0]
	for stage, want := range map[string][2]bool{
		"production": {true, true}, "staging": {false, false}, "development": {true, false}, "": {true, false}, "default": {true, false},
	} {
		if got := [2]bool{p.Enforces(stage), q.Enforces(stage)}; got != want {
			t.Errorf("stage %q: enforced %v, want %v", stage, got, want)
		}
	}
}

func TestCheckDetections(t *testing.T) {
	p := parse(t, head+`
run:
  detections: {enable: ["*", shell], disable: [nope, always]}
waivers:
  - {detection: shell, reason: r, expires: 2027-01-01}
  - {detection: always, reason: r, expires: 2027-01-01}
`)[0]
	err := p.CheckDetections(map[string]bool{"shell": false, "always": true})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`test.yaml:6: policy x names the detection "nope", which does not exist`, `"always" is always on`, `"shell" is not always on`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 2 {
		t.Errorf("%d errors, want 3:\n%v", n+1, err)
	}
}

func TestDetectionSettings(t *testing.T) {
	run := newSet(t, parse(t, head+`
run:
  detections: {enable: ["*"], disable: [noisy], effect: {critical: stop, high: alert}}
waivers:
  - {detection: lifted, reason: r, expires: 2026-11-22}
`)).Run(now, policy.Subject{})
	f := func(id string, severity event.Severity, alwaysOn bool, byDefault, want event.Effect, disabled bool) {
		t.Helper()
		got, _ := run.Detection(id, severity, alwaysOn, byDefault)
		if got.Disabled != disabled || !disabled && got.Effect != want {
			t.Errorf("%s: %+v, want effect %s, disabled %v", id, got, want, disabled)
		}
	}
	f("any", event.SeverityCritical, false, event.EffectAlert, event.EffectStop, false)
	f("any", event.SeverityHigh, false, event.EffectKill, event.EffectAlert, false)
	f("any", event.SeverityLow, false, event.EffectAlert, event.EffectAlert, false)
	f("noisy", event.SeverityLow, false, event.EffectAlert, "", true)
	f("noisy", event.SeverityLow, true, event.EffectAlert, event.EffectAlert, false)
	f("always", event.SeverityHigh, true, event.EffectKill, event.EffectKill, false) // never milder than its own
	f("lifted", event.SeverityHigh, true, event.EffectKill, "", true)
	// What happens without any policy is no policy's doing.
	run = newSet(t, parse(t, head+"\nrun: {detections: {enable: [always], effect: kill}}\n")).Run(now, policy.Subject{})
	for byDefault, want := range map[event.Effect]string{event.EffectKill: "", event.EffectStop: "", event.EffectAlert: "x"} {
		if got, _ := run.Detection("always", event.SeverityHigh, true, byDefault); got.Policy != want {
			t.Errorf("always on with %s: %+v, want the policy %q", byDefault, got, want)
		}
	}
	if got, _ := run.Detection("always", event.SeverityHigh, false, event.EffectKill); got.Policy != "x" {
		t.Errorf("enabled by name: %+v", got)
	}
}

func TestSplitReference(t *testing.T) {
	f := func(reference, repository, tag string) {
		t.Helper()
		if r, g := policy.SplitReference(reference); r != repository || g != tag {
			t.Errorf("%s: %q %q, want %q %q", reference, r, g, repository, tag)
		}
	}
	f("nginx", "nginx", "")
	f("docker.io/library/nginx:1", "nginx", "1")
	f("docker.io/acme/web@sha256:00", "acme/web", "")
	f("localhost:5000/web", "localhost:5000/web", "")
	f("localhost:5000/web:2@sha256:00", "localhost:5000/web", "2")
	f("sha256:00", "", "")
	f("", "", "")
}
