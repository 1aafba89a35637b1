package install_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/gate"
	"github.com/breakwater-sec/breakwater/internal/gate/install"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// original is spaced as nobody would space it, to see that it comes back.
const original = "{ \"labels\" :[\"a=b\"]\n\n\t, \"debug\": false}\n\n"

// site is an engine with a gate beside it that it does not ask yet.
type site struct {
	engine *testenv.Docker
	target install.Target
}

func newSite(t *testing.T, config string, options ...testenv.DockerOption) site {
	t.Helper()
	d := testenv.NewDocker(t, append([]testenv.DockerOption{testenv.WithConfig([]byte(config))}, options...)...)
	s := site{d, install.Target{
		Engine: d.Socket, PluginSocket: "/run/docker/plugins/" + filepath.Base(d.Dir) + ".sock", Data: t.TempDir(),
	}}
	return s
}

// startGate starts the supervisor alone: reads need no worker.
func (s site) startGate(t *testing.T) (stop func()) {
	t.Helper()
	l, err := gate.ListenPlugin(t.Context(), s.target.PluginSocket)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate.Supervisor{
		Listener: l, Worker: func() *exec.Cmd { return exec.Command("/bin/sleep", "600") },
		Options: gate.Options{Data: s.target.Data, Engine: s.engine.Socket, OnFailure: gate.FailClosed, ScanTimeout: time.Second, Log: slog.New(slog.DiscardHandler)},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("gate: %v", err)
		}
		os.Remove(s.target.PluginSocket)
	}
	t.Cleanup(func() { // an engine whose gate is dead refuses to be cleaned up
		os.WriteFile(s.engine.ConfigFile, []byte("{}"), 0o600)
		s.engine.Reload()
		s.engine.Run("version")
		stop()
	})
	return stop
}

func (s site) config(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.engine.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (s site) install(t *testing.T) {
	t.Helper()
	c, err := install.Install(t.Context(), s.target)
	if err == nil {
		err = c.Apply(t.Context())
	}
	if err != nil {
		t.Fatalf("install: %v\n%s", err, s.engine.LogTail())
	}
}

func (s site) uninstall(t *testing.T, choice install.Choice) error {
	t.Helper()
	c, err := install.Uninstall(t.Context(), s.target, choice)
	if err != nil {
		return err
	}
	return c.Apply(t.Context())
}

func (s site) inUse(t *testing.T) bool {
	t.Helper()
	_, inUse, _, err := install.Installed(t.Context(), s.target)
	if err != nil {
		t.Fatal(err)
	}
	return inUse
}

func TestInstallIntoARunningEngine(t *testing.T) {
	s := newSite(t, original)
	t.Run("not while the gate is dead", func(t *testing.T) {
		if _, err := install.Install(t.Context(), s.target); err == nil || !strings.Contains(err.Error(), "gate run") {
			t.Errorf("error = %v", err)
		}
	})
	stop := s.startGate(t)
	pid := s.engine.PID()
	t.Run("preparing changes nothing", func(t *testing.T) {
		c, err := install.Install(t.Context(), s.target)
		if err != nil {
			t.Fatal(err)
		}
		if d := c.Diff(); !strings.Contains(d, "\n+") || !strings.Contains(d, "authorization-plugins") {
			t.Errorf("diff:\n%s", d)
		}
		if s.config(t) != original || s.inUse(t) {
			t.Error("something changed")
		}
	})
	s.install(t)
	if !s.inUse(t) || s.engine.PID() != pid {
		t.Error("the engine does not ask the gate, or was restarted")
	}
	t.Run("a second time is told", func(t *testing.T) {
		if _, err := install.Install(t.Context(), s.target); !errors.Is(err, install.ErrInstalled) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("it survives a restart of the engine", func(t *testing.T) {
		if err := errors.Join(s.engine.Stop(), s.engine.Start()); err != nil {
			t.Fatal(err)
		}
		if !s.inUse(t) {
			t.Error("the engine does not ask the gate")
		}
	})
	if err := s.uninstall(t, install.Ask); err != nil {
		t.Fatal(err)
	}
	if got := s.config(t); got != original {
		t.Errorf("the file is\n%q, was\n%q", got, original)
	}
	if s.inUse(t) {
		t.Error("the engine still asks the gate")
	}
	t.Run("uninstalled twice", func(t *testing.T) {
		if err := s.uninstall(t, install.Ask); !errors.Is(err, install.ErrNotInstalled) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("uninstalled while the gate is dead", func(t *testing.T) {
		s.install(t)
		stop()
		if err := s.uninstall(t, install.Ask); err != nil {
			t.Fatal(err)
		}
		s.engine.MustRun(t, "version")
		if got := s.config(t); got != original {
			t.Errorf("the file is %q", got)
		}
	})
}

func TestUninstallOfAChangedFile(t *testing.T) {
	s := newSite(t, original)
	s.startGate(t)
	change := func() {
		s.install(t)
		changed := strings.Replace(s.config(t), "a=b", "c=d", 1)
		if err := os.WriteFile(s.engine.ConfigFile, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change()
	err := s.uninstall(t, install.Ask)
	if !errors.Is(err, install.ErrChanged) || !strings.Contains(err.Error(), "--keep-changes") || !strings.Contains(err.Error(), "--discard-changes") {
		t.Errorf("error = %v", err)
	}
	elsewhere := s
	elsewhere.target.Data = t.TempDir()
	if err := elsewhere.uninstall(t, install.Ask); err == nil || !strings.Contains(err.Error(), "--data") || strings.Contains(err.Error(), "0001") {
		t.Errorf("with another data folder: %v", err)
	}
	if err := s.uninstall(t, install.Keep); err != nil {
		t.Fatal(err)
	}
	if got, want := s.config(t), strings.Replace(original, "a=b", "c=d", 1); got != want {
		t.Errorf("kept changes: %q, want %q", got, want)
	}
	if err := os.WriteFile(s.engine.ConfigFile, []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	change()
	if err := s.uninstall(t, install.Discard); err != nil {
		t.Fatal(err)
	}
	if got := s.config(t); got != original {
		t.Errorf("discarded changes: %q", got)
	}
}

func TestInstallRefuses(t *testing.T) {
	t.Run("no engine", func(t *testing.T) {
		_, err := install.Install(t.Context(), install.Target{Engine: "/nonexistent.sock", PluginSocket: "/x.sock", Data: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "no engine answers") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("a broken file, and another engine's", func(t *testing.T) {
		s := newSite(t, "{}")
		s.startGate(t)
		if err := os.WriteFile(s.engine.ConfigFile, []byte("{\n\"a\" 1}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := install.Install(t.Context(), s.target); err == nil || !strings.Contains(err.Error(), s.engine.ConfigFile+": line 2") {
			t.Errorf("error = %v", err)
		}
		s.target.Config = "/etc/docker/other.json"
		if _, err := install.Install(t.Context(), s.target); err == nil || !strings.Contains(err.Error(), "not /etc/docker/other.json") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("a file that the engine does not take is put back", func(t *testing.T) {
		s := newSite(t, "{}")
		s.startGate(t)
		const bad = "{\n  \"no-such-directive\": 1\n}\n"
		if err := os.WriteFile(s.engine.ConfigFile, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := install.Install(t.Context(), s.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "put back") {
			t.Errorf("error = %v", err)
		}
		if got := s.config(t); got != bad {
			t.Errorf("the file is %q", got)
		}
	})
	t.Run("an engine with a flag that conflicts", func(t *testing.T) {
		s := newSite(t, "{}")
		s.startGate(t)
		name := strings.TrimSuffix(filepath.Base(s.target.PluginSocket), ".sock")
		if err := s.engine.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := testenv.WithArgs("--authorization-plugin=" + name)(s.engine); err != nil {
			t.Fatal(err)
		}
		if err := s.engine.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := install.Install(t.Context(), s.target); err == nil || !strings.Contains(err.Error(), "--authorization-plugin") {
			t.Errorf("error = %v", err)
		}
	})
}
