package probe_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/probe"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// hosts are written by hand: the rendering is tested, not a host.
func hosts() map[string]event.Doctor {
	return map[string]event.Doctor{
		"mixed": {
			Host: "harbour-7", Kernel: "6.1.0-56-cloud-amd64", Tier: 2, Hierarchy: "hybrid",
			Notes: []string{"no BPF file system is mounted; the agent mounts one at /sys/fs/bpf"},
			Engines: []event.Engine{
				{Name: "docker", Version: "20.10.24", Socket: "/run/docker.sock", Gate: "installed"},
				{Name: "podman", Socket: "/run/podman/podman.sock", Error: "ask: \x1b[2Jrefused\r\nconnection"},
			},
			Capabilities: []event.Capability{
				{Control: event.ControlExec, Title: "programs outside policy", Strength: event.StrengthKill, Mechanism: "exec-kill",
					Why: "killed at sched_process_exec; lsm/bprm_check_security attached without error and never fired", Fix: "add to the kernel's command line: lsm=landlock,lockdown,yama,integrity,apparmor,bpf"},
				{Control: event.ControlNetwork, Title: "connections outside policy", Strength: event.StrengthPrevent, Mechanism: "cgroup", Why: "refused with EPERM"},
				{Control: event.ControlFileRead, Title: "reading files", Strength: event.StrengthPreventLive, Mechanism: "fanotify", Why: "refused", Unused: true,
					Fix: "add to the kernel's command line: lsm=landlock,lockdown,yama,integrity,apparmor,bpf"},
				{Control: event.ControlDetection, Title: "suspicious behaviour", Strength: event.StrengthDetect, Mechanism: "tracepoint", Why: "reported"},
				{Control: event.ControlMount, Title: "mounting", Strength: event.StrengthNone, Why: "not allowed", Unused: true, Inconclusive: true},
				{Control: event.ControlResources, Title: "limits", Strength: event.StrengthPrevent, Mechanism: "cgroup",
					Why: "a-word-of-an-error-that-is-longer-than-any-terminal-is-wide/and/so/stands/alone/on/a/line/of/its/own ends", Unused: true},
				{Control: event.ControlStart, Title: "images and start parameters", Strength: event.StrengthPrevent, Mechanism: "gate", Why: "asked"},
			},
		},
		"not-probed": {
			Host: "laptop", Kernel: "6.18.44", Hierarchy: "",
			Capabilities: []event.Capability{
				{Control: event.ControlExec, Strength: event.StrengthNone, Why: "not probed: needs root, this is uid 1000", Inconclusive: true},
				{Control: event.ControlNetwork, Strength: event.StrengthNone, Why: "not probed: needs root, this is uid 1000", Inconclusive: true},
				{Control: event.ControlStart, Title: "images and start parameters", Strength: event.StrengthNone, Why: "no container engine was found"},
			},
		},
		"empty": {},
	}
}

func TestTable(t *testing.T) {
	for name, d := range hosts() {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := probe.WriteTable(&b, d); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "table", name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("rendered:\n%s\nwant:\n%s", b.String(), want)
			}
			for _, line := range strings.Split(b.String(), "\n") {
				if utf8.RuneCountInString(line) > probe.Width && strings.Contains(strings.TrimSpace(line), " ") {
					t.Errorf("wider than %d columns: %s", probe.Width, line)
				}
			}
		})
	}
}
