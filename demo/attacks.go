package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv/stage"
)

// The ports of the intruder's listeners: the policy allows the first.
const (
	portAllowed = 4444
	portRefused = 9999
)

// network gives the container's own network namespace the listeners' address
// and opens them there.
func (s *story) network(ctx context.Context) error {
	if err := stage.Addresses(ctx, s.pid, stage.Peer+"/32"); err != nil {
		return err
	}
	var err error
	if s.shellListener, err = stage.Listen(s.pid, at(portAllowed), "echo x > /witness/shell; exit\n"); err != nil {
		return err
	}
	s.Later(func() { s.shellListener.Close() })
	if s.outListener, err = stage.Listen(s.pid, at(portRefused), "hello\n"); err != nil {
		return err
	}
	s.Later(func() { s.outListener.Close() })
	return nil
}

func at(port int) string { return net.JoinHostPort(stage.Peer, strconv.Itoa(port)) }

func control(c event.Control) func(stage.Incident) bool {
	return func(i stage.Incident) bool { return i.Decision.Control == c }
}

func detection(id string) func(stage.Incident) bool {
	return func(i stage.Incident) bool { return i.Detection == id }
}

// attacks is what is tried, each with a witness that sees whether it worked.
func (s *story) attacks() []attack {
	return []attack{
		{act: "drop a program and run it", args: []string{"drop", "/witness/drop", "/tmp/xmrig"},
			witness: "the file it leaves when it runs",
			harmed:  func() bool { return s.Left("drop") }, fits: control(event.ControlDrift)},
		{act: "run a program from memory", args: []string{"fileless", "/witness/fileless"},
			witness: "the file it leaves when it runs",
			harmed:  func() bool { return s.Left("fileless") }, fits: control(event.ControlFileless)},
		{act: "open a reverse shell", args: []string{"shell", at(portAllowed), "/bin/sh"},
			witness: "the file of the listener's command",
			harmed:  func() bool { return s.appears("shell") }, fits: detection("reverse-shell")},
		{act: "send data to a stranger", args: []string{"connect", at(portRefused)},
			witness: "the listener's connections",
			harmed:  func() bool { return s.outListener.Connections.Load() > 0 }, fits: control(event.ControlNetwork)},
	}
}

// escape makes the kernel run a program of the intruder's on the host, once a
// cgroup is released.
func (s *story) escape() attack {
	release := filepath.Join(s.Cgroups, "release_agent")
	return attack{
		container: "maintenance", act: "escape by release_agent", args: []string{"escape", "/cgroups/release_agent"},
		witness: "the kernel's release_agent",
		harmed: func() bool {
			raw, err := os.ReadFile(release)
			return err != nil || strings.TrimSpace(string(raw)) != ""
		},
		fits: detection("escape-release-agent"),
	}
}

// appears waits a moment for a mark: the shell is told what to do after it
// connected, so its mark may come late, and only its absence must be waited for.
func (s *story) appears(mark string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return stage.Poll(ctx, 2*time.Second, mark+" appears", func() (bool, error) { return s.Left(mark), nil }) == nil
}
