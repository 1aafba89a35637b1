package server_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// running is a server that serves on loopback until the test ends.
type running struct {
	*server.Server
	stop func()
}

func start(t testing.TB, dir string, change func(*server.Options)) *running {
	t.Helper()
	o := server.Options{Dir: dir, Listen: "127.0.0.1:0", Version: "test"}
	if change != nil {
		change(&o)
	}
	s, err := server.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r := &running{Server: s, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}}
	t.Cleanup(r.stop)
	return r
}

func baseline(t testing.TB) []byte {
	t.Helper()
	data, err := fs.ReadFile(content.Policies(), "baseline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func nkey(t testing.TB) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// harbour fills a server with what a small site looks like after a night.
func harbour(t testing.TB, s *server.Server) (agent string) {
	t.Helper()
	ctx := context.Background()
	enrolled, err := s.EnrolLocal(ctx, "harbour-1", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	agent = enrolled.Agent
	silent, err := s.EnrolLocal(ctx, "harbour-2", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = silent
	records := []api.Record{
		storetest.Record(t, 1, api.RecordReport, "r1", vulnerable()),
		storetest.Record(t, 2, api.RecordReport, "r2", clean()),
	}
	for i, inc := range night() {
		records = append(records, storetest.Record(t, uint64(10+i), api.RecordIncident, inc.Key, inc))
	}
	for i, path := range []string{"/bin/sh", "/usr/bin/curl", "/tmp/xmrig"} {
		ev := event.Event{Key: fmt.Sprintf("e%d", i), Kind: event.KindExec, Time: time.Now(), Container: web1(), Process: &event.Process{Comm: "sh", PID: 4100 + i}, Exec: &event.Exec{Path: path}}
		records = append(records, storetest.Record(t, uint64(50+i), api.RecordEvent, ev.Key, ev))
	}
	if err := s.Ingest(ctx, storetest.Batch(agent, records...)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Status(ctx, agent, hostStatus(agent)); err != nil {
		t.Fatal(err)
	}
	return agent
}

func web1() *event.Container {
	return &event.Container{ID: strings.Repeat("4f1d09ae", 8), Name: "web-1", Engine: "docker", Workload: "shop/web",
		Image: event.Image{Digest: storetest.Digest("a"), Platform: "linux/amd64", References: []string{"registry.example/shop/web:1.4"}}}
}

func tree() []event.Process {
	t0 := time.Now().Add(-time.Hour)
	return []event.Process{
		{ID: "4001-1", PID: 4001, Path: "/usr/sbin/nginx", Comm: "nginx", Args: []string{"nginx", "-g", "daemon off;"}, Started: t0},
		{ID: "4090-2", ParentID: "4001-1", PID: 4090, PPID: 4001, UID: 33, Path: "/bin/sh", Comm: "sh", Args: []string{"sh", "-c", "cd /tmp && ./xmrig --donate-level 1 -o pool.example:3333"}, Started: t0.Add(59 * time.Minute)},
		{ID: "4102-3", ParentID: "4090-2", PID: 4102, PPID: 4090, UID: 33, Path: "/tmp/xmrig", Comm: "xmrig", Args: []string{"./xmrig", "--donate-level", "1", "-o", "pool.example:3333"}, Started: t0.Add(59 * time.Minute)},
	}
}

// drift is the incident of the design's own example.
func drift(key string) event.Incident {
	at := time.Now().Add(-3 * time.Minute)
	processes := tree()
	return event.Incident{Key: key, Time: at, Host: "harbour-1", Severity: event.SeverityHigh, Title: "Program that was not in the image",
		Sentence: "`/tmp/xmrig` was written into `web-1` after it started, then run by `sh`; Breakwater killed it before its first instruction.",
		Attack:   []string{"T1105"}, Container: web1(), Tree: processes,
		Decision: event.Decision{Control: event.ControlDrift, Effect: event.EffectBlock, Outcome: event.Killed, Policy: "baseline-run", Rule: "run.exec.drift", Generation: 1, Mechanism: "exec-kill",
			Why: "The file was changed after the container started, and this host can kill a program before it runs, but not refuse it."},
		Event: event.Event{Key: "ev" + key, Kind: event.KindExec, Time: at, Container: web1(), Process: &processes[2], Exec: &event.Exec{Path: "/tmp/xmrig", Upper: true, Modified: true}}}
}

// night is one incident of every outcome and a hostile one.
func night() []event.Incident {
	out := []event.Incident{drift("i1")}
	egress := drift("i2")
	egress.Title, egress.Severity = "Connection outside policy", event.SeverityMedium
	egress.Sentence = "`curl` in `web-1` tried to reach `198.51.100.7` port 4444; Breakwater refused the connection."
	egress.Decision = event.Decision{Control: event.ControlNetwork, Effect: event.EffectBlock, Outcome: event.Prevented, Policy: "baseline-run", Rule: "run.network.egress", Mechanism: "cgroup", Why: "The address is in no egress rule."}
	egress.Event = event.Event{Kind: event.KindConnect, Network: &event.Network{Family: "inet", Transport: "tcp", Address: "198.51.100.7", Port: 4444}}
	shadow := drift("i3")
	shadow.Title, shadow.Severity, shadow.Detection = "Sensitive file read", event.SeverityLow, "sensitive-file-read"
	shadow.Sentence = "`cat` in `web-1` read `/etc/shadow`, which it never does."
	shadow.Decision = event.Decision{Control: event.ControlDetection, Effect: event.EffectAlert, Outcome: event.Detected, Rule: "sensitive-file-read", Why: "A program that has no business with accounts read the password file."}
	shadow.Event = event.Event{Kind: event.KindFileOpen, File: &event.File{Path: "/etc/shadow"}}
	gate := drift("i4")
	gate.Title, gate.Severity, gate.Container, gate.Tree = "Start refused", event.SeverityCritical, nil, nil
	gate.Sentence = "`docker run --privileged` of `registry.example/shop/web:1.4` was refused: 2 rules of policy are violated."
	gate.Decision = event.Decision{Control: event.ControlStart, Effect: event.EffectBlock, Outcome: event.Prevented, Policy: "baseline-host", Mechanism: "gate", Why: "Two rules are violated."}
	gate.Event = event.Event{Kind: event.KindGate, Gate: &event.Gate{Engine: "docker", Action: "create", User: "ann", Verdict: event.Verdict{Violations: []event.Violation{
		{Policy: "baseline-host", Rule: "start.privileged", Message: "The container would be privileged", Remediation: "Start it without `--privileged`, and add the one capability that it needs", Source: "baseline-host:12"},
		{Policy: "baseline-host", Rule: "start.mounts", Message: "It would mount the host's `/`", Remediation: "Mount the one folder that it needs, read-only", Source: "baseline-host:15"}}}}}
	outside := drift("i5")
	outside.Title, outside.Severity = "Not covered", event.SeverityHigh
	outside.Sentence = "`legacy-db` has run since before the agent came; nothing watches its processes."
	outside.Decision = event.Decision{Control: event.ControlExec, Outcome: event.NotCovered, Why: "Its cgroup could not be found."}
	return append(out, egress, shadow, gate, outside, hostile("i6"))
}

// hostileText is what an attacker puts wherever they can name something.
const hostileText = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31mred\x1b[0m \u202egpj.exe\u202c\u200b {{.}} javascript:alert(3) `"

func hostile(key string) event.Incident {
	i := drift(key)
	i.Title, i.Sentence, i.Detection, i.Host = hostileText, hostileText, hostileText, hostileText
	i.Attack, i.Severity = []string{hostileText}, event.Severity(hostileText)
	i.Decision.Why, i.Decision.Policy, i.Decision.Rule, i.Decision.Outcome = hostileText, hostileText, hostileText, event.Outcome(hostileText)
	c := *web1()
	c.Name, c.Workload, c.Engine, c.Image.References = hostileText, hostileText, hostileText, []string{hostileText}
	c.Image.Digest = "javascript:alert(4)"
	i.Container = &c
	i.Tree = []event.Process{{ID: "1", Path: hostileText, Comm: hostileText, Args: []string{hostileText, strings.Repeat("A", 300)}}}
	i.Event.Process, i.Event.Exec = &i.Tree[0], &event.Exec{Path: hostileText, Script: hostileText}
	i.Event.Network = &event.Network{Address: hostileText, Head: hostileText}
	return i
}

func vulnerable() report.Report {
	r := storetest.Report(storetest.Digest("a"), time.Now().Add(-2*time.Hour))
	r.Target, r.Image.References = "registry.example/shop/web:1.4", []string{"registry.example/shop/web:1.4"}
	r.Config = policy.ImageConfig{Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"}, ExposedPorts: []string{"80/tcp"}}
	r.Distro = report.Distro{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"}
	r.Intelligence = &report.Intelligence{Version: "2026-11-22.1", Built: time.Now().Add(-5 * time.Hour)}
	r.Layers = append([]report.Layer{{DiffID: storetest.Digest("0"), Step: "ADD rootfs.tar.xz / # buildkit", Size: 74_800_000, Files: 8131}}, r.Layers...)
	for i, id := range []string{"CVE-2024-3094", "CVE-2023-44487", "CVE-2023-38545", "CVE-2022-0001"} {
		f := r.Findings[0]
		f.ID, f.Severity = id, []event.Severity{event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow}[i]
		f.Package.Name, f.Package.Version = []string{"liblzma5", "nginx", "curl", "linux-libc-dev"}[i], "5.6.0-1"
		f.Package.LayerIndex, f.Package.Step = i%2, r.Layers[i%2].Step
		f.Title = "A flaw that an attacker can use"
		if i == 1 {
			f.KnownExploited = true
		}
		if i == 3 {
			f.FixedVersion, f.State = "", event.FixWontFix
		}
		r.Packages = append(r.Packages, f.Package)
		r.Findings = append(r.Findings, f)
	}
	r.Secrets = []event.Secret{{Rule: "aws-access-key", Title: "AWS access key", Severity: event.SeverityHigh, Excerpt: "AKIA…", Place: event.Place{Kind: event.PlaceFile, Path: "root/.aws/credentials", Line: 2, Layer: storetest.Digest("0"), Deleted: true}}}
	r.Malware = []event.Malware{{Name: "Eicar-Test-Signature", Engine: "clamav", Severity: event.SeverityCritical, Reason: "The file holds a known signature.", Place: event.Place{Kind: event.PlaceFile, Path: "opt/drop.zip", Layer: storetest.Digest("1"), LayerIndex: 1}}}
	r.Misconfigurations = []event.Misconfiguration{{ID: "BW-D001", Title: "Runs as root", Severity: event.SeverityMedium, Message: "No `USER` is set", Remediation: "Set `USER 10001`"}}
	r.Looked, r.Engines = []string{"malware", "secrets"}, []string{"ClamAV 1.4"}
	r.Excluded = []event.Finding{{ID: "CVE-2020-9999", Package: r.Packages[0], VEX: &event.Statement{Status: "not_affected", Justification: "vulnerable_code_not_present", Document: "ours.json"}}}
	r.Gaps = []string{"usr/lib/jvm: Java archives are not read in this version."}
	return r
}

func clean() report.Report {
	r := storetest.Report(storetest.Digest("b"), time.Now().Add(-time.Hour))
	r.Target, r.Image.References = "registry.example/shop/ledger:2.0", []string{"registry.example/shop/ledger:2.0"}
	r.Config.User = "10001"
	r.Findings, r.Verdict = nil, &event.Verdict{Allowed: true}
	r.Intelligence = &report.Intelligence{Version: "2026-11-22.1", Built: time.Now().Add(-5 * time.Hour)}
	return r
}

func hostStatus(agent string) event.HostStatus {
	ledger, legacy := *web1(), *web1()
	ledger.ID, ledger.Name, ledger.Image = strings.Repeat("77aa01bc", 8), "ledger-1", event.Image{Digest: storetest.Digest("b"), References: []string{"registry.example/shop/ledger:2.0"}}
	legacy.ID, legacy.Name, legacy.Image = strings.Repeat("0102beef", 8), "legacy-db", event.Image{References: []string{"postgres:9"}}
	names := []string{"baseline-host", "baseline-run"}
	return event.HostStatus{Agent: agent, Host: "harbour-1", Version: "0.1.0", Time: time.Now(), Started: time.Now().Add(-30 * time.Hour), Generation: 1,
		Doctor: event.Doctor{Schema: 1, Time: time.Now().Add(-10 * time.Minute), Host: "harbour-1", Kernel: "6.18.0", Tier: 2, Hierarchy: "hybrid",
			Engines: []event.Engine{{Name: "docker", Version: "20.10.24", Socket: "/var/run/docker.sock", Gate: "installed"}},
			Capabilities: []event.Capability{
				{Control: event.ControlExec, Title: "Programs outside policy", Strength: event.StrengthKill, Mechanism: "exec-kill", Why: "The canary was killed 20 of 20 times before its first instruction.", Fix: "Add bpf to lsm= on the kernel's command line: then they are refused."},
				{Control: event.ControlNetwork, Title: "Connections outside policy", Strength: event.StrengthPrevent, Mechanism: "cgroup", Why: "The canary's connect returned EPERM."},
				{Control: event.ControlFileRead, Title: "Reading files", Strength: event.StrengthPreventLive, Mechanism: "fanotify", Why: "The canary's open was refused."},
				{Control: event.ControlFileWrite, Title: "Writing files", Strength: event.StrengthDetect, Why: "Only seen at the system call."},
				{Control: event.ControlMount, Title: "Mounts", Strength: event.StrengthNone, Why: "The kernel has no BPF LSM."}}},
		Containers: []event.Guarded{
			{Container: *web1(), Generation: 1, Policies: names, Mode: "enforce"},
			{Container: ledger, Generation: 0, Policies: names, Mode: "audit"},
			{Container: legacy, Generation: 0, Mode: "not covered", Why: "Its cgroup could not be found: restart it."}},
		Accounts: []event.Account{{Kind: event.KindExec, Emitted: 48123}, {Kind: event.KindConnect, Emitted: 901233, Dropped: 33}},
		Problems: []string{"33 connect events were dropped in the last hour."}}
}
