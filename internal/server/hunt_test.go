package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestHuntingAsksRightly: what cannot be asked is refused with its place, and an
// agent that is away is named in the answer.
func TestHuntingAsksRightly(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	c := admin(t, s)
	for query, want := range map[string]string{
		"where=" + url.QueryEscape("exec.nothing == 1"): "where:1:",
		"since=yesterday": "since",
		"limit=-1":        "limit",
		"where=" + url.QueryEscape(strings.Repeat("true && ", 4000)+"true"): "at most",
	} {
		if status, text := c.call("GET", "/api/v1/hunt?"+query, "", nil); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%.60s: %d %s", query, status, text)
		}
	}
	if status, text := c.call("GET", "/api/v1/hunt?agent=a0", "", nil); status != http.StatusNotFound {
		t.Errorf("an agent that nobody knows: %d %s", status, text)
	}
	if status, text := c.call("POST", "/api/v1/hunt", "kind: Polizei", nil, "Content-Type", "application/yaml"); status != http.StatusBadRequest || !strings.Contains(text, "detections:1") {
		t.Errorf("no detections: %d %s", status, text)
	}
	status, text := c.call("GET", "/api/v1/hunt?agent="+agent, "", nil)
	if status != http.StatusOK || !strings.Contains(text, agent) || !strings.Contains(text, "not connected") {
		t.Errorf("an agent that is away: %d %s", status, text)
	}
	c.token = ""
	if status, _ := c.call("GET", "/api/v1/hunt", "", nil); status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", status)
	}
}
