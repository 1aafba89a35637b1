package probe

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// fakeRoot is a folder that stands for a host's root.
func fakeRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "bw") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	return root
}

// engineAt answers every request at a socket below root.
func engineAt(t *testing.T, root, socket string, h http.Handler) {
	t.Helper()
	path := filepath.Join(root, socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

func says(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func TestDockerGate(t *testing.T) {
	for _, c := range []struct {
		name, body, config string
		status             int
		gate, problem      string
		strength           event.Strength
	}{
		{name: "asks the gate", status: 200, body: `{"ServerVersion":"1","Plugins":{"Authorization":["other","breakwater"]}}`, gate: "installed", strength: event.StrengthPrevent},
		{name: "asks nobody", status: 200, body: `{"ServerVersion":"1","Plugins":{"Authorization":null}}`, gate: "absent", strength: event.StrengthKill},
		{name: "asks somebody else", status: 200, body: `{"Plugins":{"Authorization":["breakwater2"]}}`, gate: "absent", strength: event.StrengthKill},
		{name: "the gate is dead", status: 500, body: `{"message":"plugin breakwater failed"}`, config: `{"authorization-plugins":["breakwater"]}`, gate: "unreachable", problem: "plugin breakwater failed", strength: event.StrengthPrevent},
		{name: "ill", status: 500, body: "no\nway", config: `{"authorization-plugins":`, problem: "500 Internal Server Error: no", strength: event.StrengthNone},
		{name: "nonsense", status: 200, body: "<html>", problem: "invalid character", strength: event.StrengthNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fakeRoot(t)
			engineAt(t, root, "/run/docker.sock", says(c.status, c.body))
			if c.config != "" {
				dir := filepath.Join(root, "etc", "docker")
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte(c.config), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			found := engines(t.Context(), Options{Root: root, Gate: "breakwater"})
			if len(found) != 1 || found[0].Gate != c.gate || !strings.Contains(found[0].Error, c.problem) || (c.problem == "") != (found[0].Error == "") {
				t.Fatalf("%+v", found)
			}
			if r := startRow(found); r.Strength != c.strength || r.Why == "" {
				t.Errorf("start: %+v", r)
			}
		})
	}
}

func TestOtherEngines(t *testing.T) {
	root := fakeRoot(t)
	engineAt(t, root, "/run/podman/podman.sock", says(200, `{"Version":"4.3.1"}`))
	engineAt(t, root, "/run/crio/crio.sock", says(200, "\x00\x00\x00\x00\x0e\x0a\x03x.y\x1a\x071.33-rc"))
	engineAt(t, root, "/run/containerd/containerd.sock", says(200, ""))
	if err := os.WriteFile(filepath.Join(root, "run", "docker.sock"), nil, 0o644); err != nil { // no socket, no engine
		t.Fatal(err)
	}
	got := map[string]event.Engine{}
	for _, e := range engines(t.Context(), Options{Root: root, Gate: "breakwater"}) {
		got[e.Name] = e
	}
	if len(got) != 3 || got["podman"].Version != "4.3.1" || got["cri-o"].Version != "1.33-rc" || got["containerd"].Error == "" {
		t.Errorf("%+v", got)
	}
}

func TestDeadEngine(t *testing.T) {
	root := fakeRoot(t)
	engineAt(t, root, "/run/docker.sock", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if found := engines(t.Context(), Options{Root: root, Gate: "breakwater"}); len(found) != 1 || found[0].Error == "" {
		t.Errorf("%+v", found)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := engines(ctx, Options{Root: root, Gate: "breakwater"}); len(found) != 1 || !strings.Contains(found[0].Error, "context canceled") {
		t.Errorf("%+v", found)
	}
}

// TestFurtherSocket: an engine elsewhere is found where it is said to be, and
// only once.
func TestFurtherSocket(t *testing.T) {
	root := fakeRoot(t)
	engineAt(t, root, "/elsewhere.sock", says(200, `{"ServerVersion":"1"}`))
	path := filepath.Join(root, "elsewhere.sock")
	found := engines(t.Context(), Options{Root: root, Gate: "breakwater", Docker: []string{path, "unix://" + path, path + ".none"}})
	if len(found) != 1 || found[0].Version != "1" || found[0].Gate != "absent" {
		t.Errorf("%+v", found)
	}
}

// TestRealEngines asks a Docker daemon and the containerd below it.
func TestRealEngines(t *testing.T) {
	docker := testenv.NeedDocker(t)
	root := fakeRoot(t)
	link := func(target, name string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	link(docker.Socket, "/run/docker.sock")
	link(filepath.Join(docker.Dir, "containerd.sock"), "/run/containerd/containerd.sock")
	found := engines(t.Context(), Options{Root: root, Gate: "breakwater"})
	if len(found) != 2 {
		t.Fatalf("%+v", found)
	}
	for _, e := range found {
		if e.Version == "" || e.Error != "" {
			t.Errorf("%+v", e)
		}
	}
	if b, err := json.Marshal(startRow(found)); err != nil || !strings.Contains(string(b), "no gate in docker, containerd") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestUnlistedGate: an engine that took its plugins from a reloaded
// configuration does not list them; whether it asks is found out by asking.
func TestUnlistedGate(t *testing.T) {
	root := fakeRoot(t)
	engineAt(t, root, "/run/docker.sock", says(200, `{"ServerVersion":"20.10.24","Plugins":{"Authorization":null}}`))
	for gate, asks := range map[string]bool{"installed": true, "absent": false} {
		var asked string
		found := Engines(t.Context(), Options{Root: root, AsksGate: func(_ context.Context, socket string) bool { asked = socket; return asks }})
		if len(found) != 1 || found[0].Gate != gate || !strings.HasSuffix(asked, "/run/docker.sock") {
			t.Errorf("%+v, asked %q", found, asked)
		}
	}
}
