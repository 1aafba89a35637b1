package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/evidence"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// bundle fetches the evidence of an incident and reads it.
func (h *wholeHost) bundle(id uint64) (m evidence.Manifest, files map[string][]byte) {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "e.tar")
	if out, errs, code := h.run("incidents", "evidence", fmt.Sprint(id), "--output="+path); code != exitOK || !strings.Contains(out, "all as the manifest says") {
		h.t.Fatalf("evidence: %d %s %s", code, out, errs)
	}
	f, err := os.Open(path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	files = map[string][]byte{}
	in := tar.NewReader(f)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			files[header.Name], err = io.ReadAll(in)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if err := json.Unmarshal(files["manifest.json"], &m); err != nil {
		h.t.Fatal(err)
	}
	return m, files
}

// TestEvidenceIsKept: of a program that was dropped and killed before it ran there is
// the program itself, the shell that dropped it with its hash and open files, and what
// happened around it; also when the container is gone and Breakwater was killed.
func TestEvidenceIsKept(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	attack := `exec 7</etc/passwd; mkdir -p /tmp/d && cp /bin/busybox /tmp/d/touch && echo dropped >> /tmp/d/touch
/tmp/d/touch /w/harm
while [ ! -e /w/end ]; do sleep 0.2; done`
	h.engine.MustRun(t, "exec", "-d", "web", "sh", "-c", attack)
	drift := func() []store.Incident { return h.incidents(url.Values{"control": {"drift"}, "container": {"web"}}) }
	h.until("the drift is told of", func() bool { return len(drift()) == 1 })
	id := drift()[0].ID
	var m evidence.Manifest
	var files map[string][]byte
	h.until("the program is kept", func() bool {
		out, _, code := h.run("incidents", "evidence", fmt.Sprint(id), "--output="+filepath.Join(t.TempDir(), "e.tar"))
		return code == exitOK && strings.Contains(out, "/tmp/d/touch")
	})
	h.engine.MustRun(t, "rm", "-f", "web")
	h.kill()
	h.start("--gate=no")
	h.until("the agent answers again", func() bool {
		_, _, code := h.run("incidents", "evidence", fmt.Sprint(id), "--output="+filepath.Join(t.TempDir(), "e.tar"))
		return code == exitOK
	})
	m, files = h.bundle(id)
	if len(m.Dropped) != 1 || m.Dropped[0].Path != "/tmp/d/touch" || m.Container.Name != "web" {
		t.Fatalf("%+v", m)
	}
	program := files[m.Dropped[0].Name]
	sum := sha256.Sum256(program)
	if hex.EncodeToString(sum[:]) != m.Dropped[0].SHA256 || !strings.HasSuffix(string(program), "dropped\n") || h.marked("harm") {
		t.Errorf("%d bytes of %+v", len(program), m.Dropped[0])
	}
	var look evidence.Look
	if err := json.Unmarshal(files["processes-01.json"], &look); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range look.Processes {
		for _, d := range p.Descriptors {
			found = found || p.InTree && len(p.SHA256) == 64 && d.FD == 7 && d.Target == "/etc/passwd"
		}
	}
	if !found {
		t.Errorf("the shell is not there with its hash and open file: %+v", look.Processes)
	}
	for name, want := range map[string]string{"events.jsonl": `"path":"/tmp/d/touch"`, "incident-001.json": "policy.drift"} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %s (of %d bytes)", name, want, len(files[name]))
		}
	}
	if _, errs, code := h.run("incidents", "evidence", "99999"); code != exitFailed || !strings.Contains(errs, "99999") {
		t.Errorf("of no incident: %d %s", code, errs)
	}
	var log struct{ Items []store.AuditEntry }
	if err := h.api("GET", "/api/v1/audit?object="+fmt.Sprint(id), nil, &log); err != nil || len(log.Items) == 0 || log.Items[0].Action != "incident.evidence" {
		t.Errorf("the audit log says %+v %v", log, err)
	}
}

// TestWhatTheAgentKillsIsLookedAtFirst: a process that only the agent can end is halted
// and seen whole, with its command, before it is killed.
func TestWhatTheAgentKillsIsLookedAtFirst(t *testing.T) {
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	h.engine.MustRun(t, "exec", "-d", "web", "/bin/nc", "-l", "-p", "4444", "-e", "/bin/sh")
	told := func() []store.Incident {
		return h.incidents(url.Values{"detection": {"netcat-command"}, "container": {"web"}})
	}
	h.until("it is told of", func() bool { return len(told()) == 1 })
	inc := told()[0]
	if inc.Decision.Outcome != event.Killed || inc.Decision.Mechanism != "agent" {
		t.Fatalf("the agent did not kill it: %+v %+v", inc.Decision, inc.Responses)
	}
	_, files := h.bundle(inc.ID)
	var look evidence.Look
	if err := json.Unmarshal(files["processes-01.json"], &look); err != nil {
		t.Fatal(err)
	}
	for _, p := range look.Processes {
		if p.PID == inc.Event.Process.PID {
			if !p.InTree || len(p.SHA256) != 64 || !strings.HasPrefix(strings.Join(p.Command, " "), "/bin/nc -l -p 4444") {
				t.Errorf("%+v", p)
			}
			return
		}
	}
	t.Errorf("the process that was killed is not among %+v", look.Processes)
}
