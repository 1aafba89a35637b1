package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// TestAPipelineAsksForTheVerdict: with a short-lived token that does nothing
// else, and without changing what hosts know.
func TestAPipelineAsksForTheVerdict(t *testing.T) {
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = []byte(onePolicy) })
	harbour(t, s.Server) // a host has read image a
	c := admin(t, s)
	var tok struct{ Token, Fingerprint string }
	for _, bad := range []string{`{"name":"x","scope":"ci","life":"25h"}`, `{"name":"x","scope":"ci","life":"-1s"}`, `{"name":"a b","scope":"ci","life":"1h"}`} {
		if status, text := c.call("POST", "/api/v1/tokens", bad, nil, "Content-Type", "application/json"); status != 400 {
			t.Errorf("%s: %d %s", bad, status, text)
		}
	}
	if status, _ := c.call("POST", "/api/v1/tokens", `{"name":"x","scope":"admin","life":"1h"}`, nil, "Content-Type", "application/json"); status != 422 {
		t.Errorf("an administrator's token: %d", status)
	}
	if status, text := c.call("POST", "/api/v1/tokens", `{"name":"local","scope":"ci","life":"1h"}`, &tok, "Content-Type", "application/json"); status != 200 || tok.Fingerprint != s.Fingerprint() {
		t.Fatalf("%d %s", status, text)
	}
	ci := newClient(t, s)
	ci.token = tok.Token
	for _, path := range []string{"/api/v1/images", "/api/v1/metrics", "/", "/images", "/api/v1/incidents/stream", "/api/v1/openapi.json"} {
		if status, _ := ci.call("GET", path, "", nil); status != http.StatusForbidden {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	if status, _ := ci.call("POST", "/api/v1/tokens", `{}`, nil); status != http.StatusForbidden {
		t.Error("it makes tokens")
	}
	send := func(rep report.Report) (answer struct {
		Verdict event.Verdict
		Image   string
	}) {
		t.Helper()
		raw, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := ci.call("POST", "/api/v1/scans", string(raw), &answer, "Content-Type", "application/json"); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		return answer
	}
	fresh := vulnerable()
	fresh.Image.Digest = storetest.Digest("d")
	if a := send(fresh); a.Verdict.Allowed || a.Image != fresh.Image.Digest || a.Verdict.Violations[0].Policy != "strict-images" {
		t.Errorf("%+v", a)
	}
	fresh.Findings = nil
	if a := send(fresh); !a.Verdict.Allowed || a.Image == "" {
		t.Errorf("mended: %+v", a)
	}
	forged := vulnerable()
	forged.Findings, forged.Malware = nil, nil
	if a := send(forged); a.Image != "" {
		t.Errorf("what a host knows was replaced: %+v", a)
	}
	if _, rep, err := s.Store().Image(t.Context(), storetest.Digest("a")); err != nil || len(rep.Findings) == 0 {
		t.Errorf("%+v %v", rep, err)
	}
	nameless := vulnerable()
	nameless.Image.Digest = ""
	if a := send(nameless); a.Image != "" || a.Verdict.Allowed {
		t.Errorf("a folder: %+v", a)
	}
	for body, want := range map[string]int{"": 422, "{}": 422, "[1]": 422, `{"schema":1,"packages":"` + strings.Repeat("x", 5<<20) + `"}`: 422} {
		if status, text := ci.call("POST", "/api/v1/scans", body, nil); status != want {
			t.Errorf("%.20q: %d %.200s", body, status, text)
		}
	}
}

// TestAPipelinesWordIsShownAsOne: in the list, on the image's page, in the answer
// to "where is it" and in the API; and with no incident, though a host runs it.
func TestAPipelinesWordIsShownAsOne(t *testing.T) {
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = []byte(onePolicy) })
	agent := harbour(t, s.Server)
	c := admin(t, s)
	before, err := s.Store().LastIncident(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rep := vulnerable()
	rep.Image.Digest, rep.Image.References = storetest.Digest("d"), []string{"shop/forged:1"}
	running := hostStatus(agent)
	running.Containers[0].Container.Image = rep.Image
	if _, err := s.Status(t.Context(), agent, running); err != nil {
		t.Fatal(err)
	}
	findings := rep.Findings
	for _, found := range [][]event.Finding{nil, findings} {
		rep.Findings = found
		raw, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := c.call("POST", "/api/v1/scans", string(raw), nil, "Content-Type", "application/json"); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
	}
	if after, err := s.Store().LastIncident(t.Context()); err != nil || after != before {
		t.Errorf("two reports of a pipeline made an incident: %v", err)
	}
	for path, want := range map[string]string{
		"/images?text=forged": "says a pipeline", "/images/" + rep.Image.Digest: "No host and not this server read this image",
		"/where?name=CVE-2024-3094": "says a pipeline", "/api/v1/images/" + rep.Image.Digest: `"pipeline":"`, "/api/v1/images?text=forged": `"pipeline":"`,
		"/api/v1/where?kind=vulnerability&name=CVE-2024-3094": `"pipeline":"`,
	} {
		if status, text := c.call("GET", path, "", nil); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s lacks %q: %d", path, want, status)
		}
	}
	for _, path := range []string{"/images/" + storetest.Digest("a"), "/images?text=ledger", "/api/v1/images/" + storetest.Digest("a")} {
		if _, text := c.call("GET", path, "", nil); strings.Contains(text, "pipeline") {
			t.Errorf("%s speaks of a pipeline, and a host read the image", path)
		}
	}
}

// TestReportsAtOnce: senders that never end their reports take bounded memory,
// and hold up others only as long as they hold on.
func TestReportsAtOnce(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	c := admin(t, s)
	status := func() int {
		got, _ := c.call("POST", "/api/v1/scans", "{}", nil, "Content-Type", "application/json")
		return got
	}
	free := status()
	var slow []*io.PipeWriter
	var ended sync.WaitGroup
	for range 4 {
		r, w := io.Pipe()
		slow = append(slow, w)
		ended.Go(func() {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/v1/scans", r)
			if err != nil {
				t.Error(err)
				return
			}
			q.Header.Set("Authorization", "Bearer "+c.token)
			q.Header.Set("Content-Type", "application/json")
			if res, err := c.http.Do(q); err == nil {
				res.Body.Close()
			}
		})
	}
	until := func(what string, want int) {
		for deadline := time.Now().Add(30 * time.Second); status() != want; {
			if time.Now().After(deadline) {
				t.Fatal("never ", what)
			}
		}
	}
	until("refused", http.StatusServiceUnavailable)
	for _, w := range slow {
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
	}
	ended.Wait()
	until("free again", free)
}
