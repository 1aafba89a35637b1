package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// reach tries a connection from inside a container and says what came of it.
func (h *wholeHost) reach(container, address string) string {
	h.t.Helper()
	out, errs, _ := h.engine.Run("exec", container, "nc", "-w", "1", address, "80", "-e", "true")
	return out + errs
}

const refusal = "Operation not permitted"

// TestUpEnforcesWhatIsPromoted: an indicator that intelligence brought alerts; an
// administrator promotes it, and connections are refused, also after a crash;
// demoted, it alerts again. A detection responds as long as it is promoted.
func TestUpEnforcesWhatIsPromoted(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("192.0.2.7\n198.51.100.0/24\nevil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := h.run("intel", "import", "--name=ours", list); code != exitOK {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	h.until("the host has the intelligence", func() bool { return h.status().Intelligence != "" })
	told := func(outcome event.Outcome) store.Incident {
		t.Helper()
		var found store.Incident
		h.until("it is told as "+string(outcome), func() bool {
			for _, inc := range h.incidents(url.Values{"detection": {"network-indicator"}, "outcome": {string(outcome)}}) {
				found = inc
			}
			return found.ID > 0
		})
		return found
	}
	h.until("a contact alerts", func() bool {
		if said := h.reach("web", "192.0.2.7"); strings.Contains(said, refusal) {
			t.Fatalf("what was not promoted is refused: %s", said)
		}
		return len(h.incidents(url.Values{"detection": {"network-indicator"}})) > 0
	})
	first := told(event.Detected)

	var all struct{ Items []store.Promotion }
	promote := map[string]string{"kind": "indicator", "value": "192.0.2.7", "reason": "seen in an attack on us"}
	if err := h.api(http.MethodPost, "/api/v1/intelligence/promotions", promote, &all); err != nil || len(all.Items) != 1 || all.Items[0].Reason != promote["reason"] {
		t.Fatalf("%+v %v", all, err)
	}
	h.until("the connection is refused", func() bool { return strings.Contains(h.reach("web", "192.0.2.7"), refusal) })
	inc := told(event.Prevented)
	if inc.Decision.Mechanism != "cgroup" || inc.Decision.Effect != event.EffectBlock || !strings.Contains(inc.Sentence, "refused") || !strings.Contains(inc.Decision.Why, "promoted") || inc.Container.Name != "web" {
		t.Errorf("%+v", inc.Incident)
	}
	for _, other := range h.incidents(url.Values{"control": {"network"}, "outcome": {"prevented"}}) {
		if other.Detection != "network-indicator" {
			t.Errorf("the same act is told twice: %s", other.Sentence)
		}
	}
	if said := h.reach("web", "198.51.100.9"); strings.Contains(said, refusal) {
		t.Errorf("an indicator that nobody promoted: %s", said)
	}

	h.kill()
	if said := h.reach("web", "192.0.2.7"); !strings.Contains(said, refusal) {
		t.Errorf("while no agent lives: %s", said)
	}
	h.start("--gate=no")
	h.box("later")
	for _, name := range []string{"web", "later"} {
		if said := h.reach(name, "192.0.2.7"); !strings.Contains(said, refusal) {
			t.Errorf("%s, after a restart: %s", name, said)
		}
	}
	if err := h.api(http.MethodPost, "/api/v1/intelligence/promotions", map[string]string{"kind": "indicator", "source": "list/ours", "reason": "all of it"}, &all); err != nil {
		t.Fatal(err)
	}
	h.until("every indicator of the source is refused", func() bool { return strings.Contains(h.reach("web", "198.51.100.9"), refusal) })
	for _, p := range all.Items {
		if err := h.api(http.MethodDelete, fmt.Sprintf("/api/v1/intelligence/promotions/%d?reason=enough", p.ID), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.until("what was demoted is let through", func() bool { return !strings.Contains(h.reach("web", "192.0.2.7"), refusal) })
	h.until("and alerts again", func() bool {
		h.reach("web", "192.0.2.7")
		for _, inc := range h.incidents(url.Values{"detection": {"network-indicator"}, "outcome": {"detected"}}) {
			if inc.ID > first.ID {
				return true
			}
		}
		return false
	})
	h.listedName()
	var audit struct {
		Items []struct{ Action, Object, Detail string }
	}
	if err := h.api(http.MethodGet, "/api/v1/audit", nil, &audit); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(audit.Items)
	for _, want := range []string{"intelligence.promote indicator 192.0.2.7 seen in an attack on us", "intelligence.demote indicator every one of list/ours enough"} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit log lacks %q: %s", want, text)
		}
	}
	for _, wrong := range []map[string]string{{"kind": "indicator", "value": "evil", "reason": "r"}, {"kind": "indicator", "value": "0.0.0.0/0", "reason": "r"}, {"kind": "indicator", "value": "192.0.2.7"},
		{"kind": "indicator", "value": "192.0.2.7", "reason": "r", "ends": "2020-01-01"}, {"kind": "indicator", "value": "127.0.0.1", "reason": "r"}, {"kind": "indicator", "source": "nobody", "reason": "r"}} {
		if err := h.api(http.MethodPost, "/api/v1/intelligence/promotions", wrong, nil); err == nil {
			t.Errorf("%v was promoted", wrong)
		}
	}
}

// listedName: who asks for a domain below a listed one is told of, and killed once
// the domain is promoted.
func (h *wholeHost) listedName() {
	h.t.Helper()
	ask := func(outcome event.Outcome, name string) store.Incident {
		h.t.Helper()
		var found store.Incident
		h.until(name+" is told as "+string(outcome), func() bool {
			h.engine.Run("exec", "web", "timeout", "2", "nslookup", name, "127.0.0.1")
			for _, inc := range h.incidents(url.Values{"detection": {"network-indicator"}, "outcome": {string(outcome)}}) {
				if inc.Event.DNS != nil && inc.Event.DNS.Name == name {
					found = inc
				}
			}
			return found.ID > 0
		})
		return found
	}
	inc := ask(event.Detected, "a.evil.example")
	if inc.Decision.Effect != event.EffectAlert || !strings.Contains(inc.Decision.Why, "evil.example is listed by list/ours") || inc.Container.Name != "web" {
		h.t.Errorf("%+v", inc.Incident)
	}
	if err := h.api(http.MethodPost, "/api/v1/intelligence/promotions", map[string]string{"kind": "indicator", "value": "*.Evil.example.", "reason": "theirs"}, nil); err != nil {
		h.t.Fatal(err)
	}
	inc = ask(event.Killed, "b.evil.example")
	if inc.Decision.Mechanism != "agent" || len(inc.Responses) != 1 || !inc.Responses[0].Done || !strings.Contains(inc.Decision.Why, "promoted") {
		h.t.Errorf("%+v", inc.Incident)
	}
}
