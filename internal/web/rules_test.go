package web_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// ruled has one rule of every kind, in block style with comments between.
const ruled = `# a comment
apiVersion: breakwater/v1
kind: Policy
metadata:
  name: p
image:
  unscanned: deny
  maxSeverity: high
  rules:
    # the first rule
    - id: no-root
      deny: image.config.user == ""
      message: The image runs as root
start:
  privileged: deny
  require:
    - memoryLimit
run:
  exec:
    drift: block
    fileless: kill
    allow:
      - /usr/bin/a
    deny:
      # the first denied program
      - /usr/bin/b
    effect: block
  network:
    metadataService: deny
    egress:
      # the first peer
      - to: 192.0.2.1
        ports: [80]
    deny:
      # the first denied peer
      - to: 192.0.2.9
    effect: block
  detections:
    enable: ["*"]
`

// decisions are what the kernel, the gate and the audit of that policy name,
// with the text of the line that each is about.
func decisions(t *testing.T) map[string]event.Decision {
	t.Helper()
	all, err := policy.Parse("p", []byte(ruled))
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet(1, all)
	if err != nil {
		t.Fatal(err)
	}
	run := set.Run(time.Now(), policy.Subject{})
	rule := func(name, source string) event.Decision {
		return event.Decision{Control: event.ControlNetwork, Policy: "p", Rule: fmt.Sprintf("%s (%s)", name, source)}
	}
	return map[string]event.Decision{
		"drift: block":               rule("run.exec.drift", run.Drift.Source),
		"fileless: kill":             rule("run.exec.fileless", run.Fileless.Source),
		"- /usr/bin/b":               rule("run.exec /usr/bin/b", run.Exec.Deny[0].Source),
		"- to: 192.0.2.9":            {Control: event.ControlNetwork, Policy: "p", Rule: run.Network.Deny[0].Source}, // as audit writes it
		"allow:":                     {Control: event.ControlExec, Policy: "p", Rule: "run.exec.allow"},
		"egress:":                    {Control: event.ControlNetwork, Policy: "other, p", Rule: "run.network.egress"},
		"detections:":                {Control: event.ControlDetection, Policy: "p", Rule: "reverse-shell"},
		"privileged: deny":           {Control: event.ControlStart, Policy: "p", Rule: "start.privileged"},
		"- id: no-root":              {Control: event.ControlImage, Policy: "p", Rule: "image.no-root"},
		"maxSeverity: high":          {Control: event.ControlImage, Policy: "p", Rule: "image.maxSeverity"},
		"unscanned: deny":            {Control: event.ControlImage, Policy: "p", Rule: "image.unscanned"},
		"metadataService: deny":      {Control: event.ControlNetwork, Policy: "p", Rule: "run.network.metadataService"},
		"metadataService: deny #own": rule("run.network 169.254.169.254/32", metadata(t, run)),
	}
}

func metadata(t *testing.T, run policy.Run) string {
	t.Helper()
	for _, d := range run.Network.Deny {
		if strings.HasPrefix(d.Prefix.String(), "169.254.169.254") {
			return d.Source
		}
	}
	t.Fatal("the metadata service is not denied")
	return ""
}

var policyLine = regexp.MustCompile(`<a href="(/policies/p(?:\?version=\d+)?)#L(\d+)">`)

// TestRulesLeadToTheirLines: every kind of rule leads from its incident to the
// line that it stands on, in the version that was in force, although the
// policy was changed since.
func TestRulesLeadToTheirLines(t *testing.T) {
	clock := now()
	s := openAt(t, func() time.Time { return clock })
	for i, source := range []string{ruled, "# moved\n# by two lines\n" + ruled} {
		clock = clock.Add(time.Hour)
		if _, err := s.store.PutPolicy(t.Context(), "p", source, i, store.Actor{Name: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	clock = clock.Add(time.Hour)
	if _, err := s.store.PutPolicy(t.Context(), "other", "run:\n  exec: {drift: block}\n", 0, store.Actor{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	id := 0
	for want, d := range decisions(t) {
		id++
		want, _, _ = strings.Cut(want, " #own")
		inc := storetest.Incident(fmt.Sprint(id))
		inc.Decision, inc.Decision.Generation = d, 1
		if _, err := s.store.Ingest(t.Context(), storetest.Batch("a1", storetest.Record(t, uint64(id), api.RecordIncident, inc.Key, inc))); err != nil {
			t.Fatal(err)
		}
		_, page := s.get(fmt.Sprintf("/incidents/%d", id))
		m := policyLine.FindStringSubmatch(page)
		if m == nil {
			t.Errorf("%s: the incident leads to no line", d.Rule)
			continue
		}
		_, source := s.get(m[1])
		_, line, _ := strings.Cut(source, `<li id="L`+m[2]+`">`)
		line, _, _ = strings.Cut(line, "</code>")
		if !strings.Contains(line, want) || !strings.Contains(page, "version 1, in force then") {
			t.Errorf("%s leads to line %s of %s, which is %q, not %q", d.Rule, m[2], m[1], line, want)
		}
	}
}
