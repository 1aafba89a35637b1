package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// desk asks the agent as the gate does.
func (s *site) desk(path, body string) (status int, answer string) {
	s.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.dir, api.SocketAgent))
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestDesk(t *testing.T) {
	s := newSite(t)
	s.start()
	if info, err := os.Stat(filepath.Join(s.dir, api.SocketAgent)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"not JSON", "/v1/note", "<xml/>", 400, "request"},
		{"cut off", "/v1/start", `{"container": {"id": "`, 400, "request"},
		{"of another type", "/v1/gate", `{"builds": "one"}`, 400, "request"},
		{"huge", "/v1/note", `{"key": "` + strings.Repeat("x", 2<<20) + `"}`, 400, "too large"},
		{"unknown", "/v1/exec", "{}", 404, ""},
		{"a start of nothing", "/v1/start", "{}", 500, "container id"},
		{"a note without verdict", "/v1/note", `{"key": "k"}`, 500, "verdict"},
		{"a scan of no digest", "/v1/scan", `{"engine": "/x", "digest": "sha256:../../etc/passwd", "name": "x"}`, 500, "64 hex digits"},
		{"a build", "/v1/gate", `{"builds": -5}`, 200, ""},
	} {
		if status, text := s.desk(c.path, c.body); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s", c.name, status, text)
		}
	}
	note := event.Event{Key: "gate-1", Kind: event.KindGate, Time: time.Now().UTC(), Container: &event.Container{Name: "web"},
		Gate: &event.Gate{Action: "create", Verdict: event.Verdict{Violations: []event.Violation{{Policy: "p", Rule: "r", Message: "It is forbidden."}, {Policy: "q", Rule: "r", Message: "It is forbidden"}}}}}
	raw, err := json.Marshal(note)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := s.desk("/v1/note", string(raw)); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for _, lost := range []string{"3", "0"} {
		s.desk("/v1/gate", `{"gate": "g", "engine": "/run/x.sock", "dropped": `+lost+`}`)
		if said := s.problems(); strings.Contains(said, "decisions of the gate of /run/x.sock were dropped") != (lost != "0") {
			t.Errorf("with %s lost: %s", lost, said)
		}
	}
	s.until("the refusal is an incident", func() bool { return len(s.incidents()) == 1 })
	if inc := s.incidents()[0]; inc.Sentence != "The gate refused to create container `web`: It is forbidden." || inc.Decision.Outcome != event.Prevented || inc.Host != "host" {
		t.Errorf("%+v", inc)
	}
}

// TestReports: a report is handed out without a scan, judged by the policy in
// force, and judged again when that changes.
func TestReports(t *testing.T) {
	s := newSite(t)
	r := report.Report{Schema: report.SchemaVersion, Time: time.Now().UTC(), Target: "demo:1", Image: event.Image{Digest: digest, References: []string{"demo:1"}}}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(api.DirReports, strings.Repeat("d", 64)+".json")
	s.write(name, raw)
	s.write(filepath.Join(api.DirReports, strings.Repeat("f", 64)+".json"), []byte("{")) // a damaged one
	s.uplink.signed = s.sign(s.bundle(1, ""))
	s.start()
	request := `{"engine": "` + s.engine.socket + `", "digest": "` + digest + `", "name": "demo:1"}`
	if status, text := s.desk("/v1/scan", request); status != 200 || !strings.Contains(text, "demo:1") {
		t.Fatalf("%d %s", status, text)
	}
	judged := func() *event.Verdict {
		raw, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var r report.Report
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		return r.Verdict
	}
	s.until("it is judged", func() bool { v := judged(); return v != nil && v.Allowed })
	s.offer(s.sign(s.bundle(2, "apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\nimage:\n  rules:\n    - {id: r, deny: 'image.config.user == \"\"', message: no root}\n")))
	s.until("it is refused", func() bool { v := judged(); return v != nil && !v.Allowed && v.Generation == 2 })
	s.until("the server knows", func() bool {
		for _, rec := range s.uplink.of(api.RecordReport) {
			if bytes.Contains(rec.Body, []byte(`"no root"`)) {
				return true
			}
		}
		return false
	})
	if !strings.Contains(s.problems(), strings.Repeat("f", 64)) {
		t.Errorf("the damaged report is not told: %s", s.problems())
	}
}

// shell is an event that the always-on reverse-shell rule fires on.
func shell(key string, p *event.Process) event.Event {
	return event.Event{Key: key, Kind: event.KindExec, Time: time.Now().UTC(), Container: &event.Container{ID: idA}, Process: p,
		Exec: &event.Exec{Path: "/bin/" + key, StdinSocket: true, StdoutSocket: true}}
}

// started is a process's start as the kernel counts, in nanoseconds since boot.
func started(t *testing.T, pid int) uint64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ticks * uint64(10*time.Millisecond)
}

// TestKillsOnlyTheProcessItself: the process of the event is ended; another one
// that has its number by now is left alone.
func TestKillsOnlyTheProcessItself(t *testing.T) {
	s := newSite(t)
	s.engine.add(idA, "web", nil)
	s.start()
	victim, bystander := exec.Command("sleep", "600"), exec.Command("sleep", "600")
	for _, c := range []*exec.Cmd{victim, bystander} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill() })
	}
	pid := bystander.Process.Pid
	id := strconv.Itoa(pid) + "-" + strconv.FormatUint(started(t, pid)-uint64(time.Hour), 10)
	s.sensor.events <- shell("reused", &event.Process{ID: id, PID: pid})
	pid = victim.Process.Pid
	id = strconv.Itoa(pid) + "-" + strconv.FormatUint(started(t, pid), 10)
	s.sensor.events <- shell("itself", &event.Process{ID: id, PID: pid})
	_ = victim.Wait() // killed
	s.sensor.events <- shell("nonsense", &event.Process{ID: "x", PID: bystander.Process.Pid})
	s.sensor.events <- shell("init", &event.Process{ID: "1-0", PID: 1})
	s.until("all are told", func() bool { return len(s.incidents()) == 4 })
	if _, err := os.Stat("/proc/" + strconv.Itoa(bystander.Process.Pid)); err != nil {
		t.Error("a process was killed that has only the number of the event's")
	}
	for _, inc := range s.incidents() {
		done := len(inc.Responses) == 1 && inc.Responses[0].Done
		if want := inc.Event.Key == "itself" || inc.Event.Key == "reused"; done != want || inc.Container.Name != "web" {
			t.Errorf("%s: %+v", inc.Event.Key, inc.Responses)
		}
	}
}

// TestUnfinishedIncidents: what an agent saw and did not finish is finished by
// the next, once.
func TestUnfinishedIncidents(t *testing.T) {
	s := newSite(t)
	s.start()
	for i := range 50 {
		s.sensor.events <- shell("e"+strconv.Itoa(i), nil)
	}
	s.stop() // with most of them unfinished
	s.start()
	keys := func() map[string]bool {
		all := map[string]bool{}
		for _, inc := range s.incidents() {
			all[inc.Key] = true
		}
		return all
	}
	s.until("all are told", func() bool { return len(keys()) == 50 })
	s.stop()
	n := len(s.incidents())
	s.start()
	s.sensor.events <- shell("last", nil)
	s.until("the last is told", func() bool { return len(keys()) == 51 })
	if got := len(s.incidents()); got != n+1 {
		t.Errorf("%d incidents were told again", got-n-1)
	}
}
