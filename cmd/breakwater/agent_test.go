package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestServerAndAgent goes through the life of a server and of an agent on
// another host: invitation, joining, both without each other, revocation.
func TestServerAndAgent(t *testing.T) {
	h := newWholeHost(t)
	h.server = h.data + "-server"
	listen, bus := testenv.FreeAddress(t), testenv.FreeAddress(t)
	serve := func() *program {
		p := startProgram(t, "server", "--data="+h.server, "--listen="+listen, "--bus-listen="+bus)
		p.waitFor(t, "Serving.")
		return p
	}
	agent := func(more ...string) []string {
		return append(append([]string{"agent", "--data=" + h.data, "--gate=no"}, h.hostArgs()...), more...)
	}
	refused := func(code int, why string, args ...string) {
		t.Helper()
		p := startProgram(t, args...)
		if got := p.wait(time.Minute); got != code || !strings.Contains(p.said(), why) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s", args, got, code, why, p.said())
		}
	}
	token := h.data + "-token"
	if err := os.WriteFile(token, []byte("bwe_nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	print64 := strings.Repeat("ab", 32)
	join := []string{"--server=https://" + listen, "--fingerprint=" + print64, "--token-file=" + token}
	refused(exitUsage, "agents token", agent()...)
	refused(exitUsage, "want https://host:port", agent("--server=http://"+listen, join[1], join[2])...)
	refused(exitUsage, "32 bytes", agent(join[0], "--fingerprint=abcd", join[2])...)
	refused(exitUnreachable, "server unreachable", agent(join...)...)
	refused(exitFailed, "which server?", "agents", "list", "--data="+h.server)

	srv := serve()
	refused(exitFailed, "fingerprint", agent(join...)...)
	fingerprint, err := authorityFingerprint(filepath.Join(h.server, "server", "tls-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	join[1] = "--fingerprint=" + fingerprint
	refused(exitFailed, "token is unknown, used up or expired", agent(join...)...)

	mine := h.data
	h.data = h.server
	out, errs, code := h.run("agents", "token", "--uses=1", "--life=10m")
	h.data = mine
	if code != exitOK || len(strings.Fields(out)) != 1 {
		t.Fatalf("agents token: %d %q %s", code, out, errs)
	}
	if err := os.WriteFile(token, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	h.up = startProgram(t, agent(join...)...)
	h.up.waitFor(t, "Guarding. Ctrl-C")
	if strings.Contains(h.up.said(), strings.TrimSpace(out)) {
		t.Error("the token is in the log")
	}
	if info, err := os.Stat(filepath.Join(h.data, fileEnrolment)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("enrolment: %v %v", info, err)
	}
	refused(exitFailed, "token is unknown, used up or expired", "agent", "--data="+h.data+"-other", join[0], join[1], join[2])
	h.box("web")
	h.drift("web", "first")
	if h.marked("first") {
		t.Error("a program that was not in the image ran")
	}
	h.incidentsOf("web", 1, driftIncidents())

	// The server is away: the agent starts without it and goes on.
	srv.signal(syscall.SIGKILL)
	srv.wait(10 * time.Second)
	h.drift("web", "alone")
	h.kill()
	h.up = startProgram(t, agent()...)
	h.up.waitFor(t, "Guarding. Ctrl-C")
	h.box("late")
	h.drift("late", "late")
	if h.marked("alone") || h.marked("late") {
		t.Error("without a server, a program that was not in the image ran")
	}
	again := serve()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server said:\n%s", again.said())
			for _, inc := range h.incidents(nil) {
				t.Logf("it has: %s", inc.Sentence)
			}
		}
	})
	h.incidentsOf("web", 2, driftIncidents())
	h.incidentsOf("late", 1, driftIncidents())
	if got := h.incidents(driftIncidents()); len(got) != 3 {
		t.Errorf("%d incidents of 3 attacks", len(got))
	}

	id := h.status().Agent
	h.data = h.server
	if out, errs, code := h.run("agents", "list"); code != exitOK || !strings.Contains(out, id) || !strings.Contains(out, "testhost") {
		t.Errorf("agents list: %d %s%s", code, out, errs)
	}
	if out, errs, code := h.run("agents", "revoke", id); code != exitOK {
		t.Errorf("agents revoke: %d %s%s", code, out, errs)
	}
	if _, errs, code := h.run("agents", "revoke", "nobody"); code != exitFailed || !strings.Contains(errs, "nobody") {
		t.Errorf("revoke of nobody: %d %s", code, errs)
	}
	if out, _, _ := h.run("agents", "list"); !strings.Contains(out, "revoked") {
		t.Errorf("agents list: %s", out)
	}
	h.data = mine
	h.drift("web", "revoked")
	if h.marked("revoked") {
		t.Error("revoking an agent lifted the enforcement")
	}
}
