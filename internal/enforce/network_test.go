package enforce_test

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

func peers(list ...string) (rules []policy.PeerRule) {
	for _, p := range list {
		rules = append(rules, policy.PeerRule{Prefix: netip.MustParsePrefix(p), Policy: "p"})
	}
	return rules
}

func ports(prefix string, ranges ...policy.PortRange) policy.PeerRule {
	return policy.PeerRule{Prefix: netip.MustParsePrefix(prefix), Ports: ranges}
}

func TestKernelNetwork(t *testing.T) {
	g := newGuard(t)
	allow := policy.Run{Network: policy.Network{Effect: event.EffectBlock, Restrict: true, Egress: append(
		peers("203.0.113.0/24", "2001:db8:1::/48"),
		ports("198.51.100.0/24", policy.PortRange{First: 443, Last: 443}, policy.PortRange{First: 8000, Last: 8010}))}}
	allow.Network.Deny = peers("203.0.113.7/32")
	deny := policy.Run{Network: policy.Network{Effect: event.EffectBlock, Deny: append(peers("169.254.169.254/32"), peers("::/0")...)}}
	audit := policy.Run{Audit: true, Network: policy.Network{Effect: event.EffectBlock, Restrict: true}}
	const passes, refused = int(syscall.ENETUNREACH), int(syscall.EPERM)
	packet := 128 + 9
	if g.opts.Tier1 {
		packet = refused
	}
	for _, test := range []struct {
		name string
		run  policy.Run
		act  string
		want int
	}{
		{"allowed", allow, "connect tcp4 203.0.113.1:80", passes},
		{"deny beats allow", allow, "connect tcp4 203.0.113.7:80", refused},
		{"allowed port", allow, "connect tcp4 198.51.100.1:443", passes},
		{"allowed range", allow, "connect tcp4 198.51.100.1:8010", passes},
		{"other port", allow, "connect tcp4 198.51.100.1:8011", refused},
		{"other peer", allow, "connect tcp4 192.0.2.1:80", refused},
		{"v6 allowed", allow, "connect tcp6 [2001:db8:1::5]:80", passes},
		{"v6 other", allow, "connect tcp6 [2001:db8:2::5]:80", refused},
		{"udp", allow, "connect udp4 192.0.2.1:53", refused},
		{"unconnected udp", allow, "send udp4 192.0.2.1:53", refused},
		{"unconnected udp allowed", allow, "send udp4 203.0.113.1:53", passes},
		{"unconnected udp6", allow, "send udp6 [2001:db8:2::5]:53", refused},
		{"loopback", policy.Run{Network: policy.Network{Effect: event.EffectBlock, Restrict: true}}, "connect tcp4 127.0.0.1:1", passes},
		{"metadata", deny, "connect tcp4 169.254.169.254:80", refused},
		{"::/0 is not IPv4", deny, "connect tcp4 192.0.2.1:80", passes},
		{"all of IPv6", deny, "connect tcp6 [2001:db8::1]:80", refused},
		{"audit", audit, "connect tcp4 192.0.2.1:80", passes},
		{"raw socket", allow, "socket 2 3 1", refused},
		{"stream socket", allow, "socket 2 1 0", 0},
		{"raw socket without rules", policy.Run{}, "socket 2 3 1", 0},
		{"packet socket", allow, "socket 17 3 768", packet},
		{"packet socket without rules", policy.Run{}, "socket 17 3 768", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if r := g.box(assign(t, g, test.run)).act("%s", test.act); unreachable(r.code) != test.want {
				t.Errorf("%s: %+v, want %d", test.act, r, test.want)
			}
		})
	}
}

// unreachable: a network namespace without addresses answers so for IPv6.
func unreachable(code int) int {
	if code == int(syscall.EADDRNOTAVAIL) {
		return int(syscall.ENETUNREACH)
	}
	return code
}

func TestKernelNetworkEvents(t *testing.T) {
	g := newGuard(t)
	run := policy.Run{Policies: []string{"p"}, Generation: 3, Network: policy.Network{Effect: event.EffectBlock, Deny: peers("192.0.2.0/24")}}
	b := g.box(assign(t, g, run))
	b.act("connect tcp4 192.0.2.1:80")
	e := g.wait("refusal", decided(b.id, event.ControlNetwork, event.Prevented))
	want := event.Decision{
		Control: event.ControlNetwork, Effect: event.EffectBlock, Outcome: event.Prevented, Policy: "p", Generation: 3,
		Rule: "run.network 192.0.2.0/24", Mechanism: "cgroup", Why: "policy does not allow 192.0.2.1:80; it was refused.",
	}
	if *e.Decision != want {
		t.Errorf("decision: %+v", *e.Decision)
	}
	if n := *e.Network; n.Address != "192.0.2.1" || n.Port != 80 || n.Transport != "tcp" || n.Family != "inet" {
		t.Errorf("network: %+v", n)
	}
	b.act("connect tcp6 [2001:db8::1]:81")
	g.wait("connection", func(e event.Event) bool {
		return e.Kind == event.KindConnect && e.Decision == nil && e.Network.Address == "2001:db8::1" && e.Network.Port == 81
	})
}

// Who is told to have refused is whose list does not hold it, not every policy
// that the container stands under.
func TestKernelNamesWhoRefused(t *testing.T) {
	g := newGuard(t)
	run := policy.Run{Policies: []string{"detects", "programs", "web", "zone"}, Generation: 3,
		Network: policy.Network{Effect: event.EffectBlock, Restrict: true, By: []string{"web", "zone"}},
		Exec:    policy.Exec{Effect: event.EffectBlock, Restrict: true, By: []string{"programs"}}}
	b := g.box(assign(t, g, run))
	b.run("/bin/true")
	if d := g.wait("program", func(e event.Event) bool {
		return e.Container != nil && e.Container.ID == b.id && e.Decision != nil && e.Decision.Control == event.ControlExec
	}).Decision; d.Policy != "programs" || d.Rule != "run.exec.allow" {
		t.Errorf("program: %+v", d)
	}
	run.Exec = policy.Exec{}
	b = g.box(assign(t, g, run))
	b.act("connect tcp4 192.0.2.1:80")
	if d := g.wait("refusal", decided(b.id, event.ControlNetwork, event.Prevented)).Decision; d.Policy != "web, zone" || d.Rule != "run.network.egress" {
		t.Errorf("connection: %+v", d)
	}
}

func TestKernelMiner(t *testing.T) {
	g := newGuard(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
				data, _ := io.ReadAll(c)
				_ = c.Close()
				got <- string(data)
			}()
		}
	}()
	audit := policy.Run{Audit: true}
	b := g.box(assign(t, g, audit))
	if r := finish(inHostNetwork(b.actCommand("stratum " + l.Addr().String()))); r.code != 0 {
		t.Errorf("detect: %+v", r)
	}
	if s := <-got; s == "" {
		t.Error("detected, yet nothing arrived")
	}
	e := g.wait("miner", decided(b.id, event.ControlDetection, event.Detected))
	if e.Kind != event.KindFlow || e.Network.Head == "" || e.Decision.Rule != "miner-handshake" || e.Process.PID == 0 {
		t.Errorf("event: %+v %+v", e.Network, e.Decision)
	}
	block := policy.Run{Respond: true, Detections: map[string]policy.DetectionSetting{"miner-handshake": {Effect: event.EffectBlock}}}
	b = g.box(assign(t, g, block))
	finish(inHostNetwork(b.actCommand("stratum " + l.Addr().String())))
	if s := <-got; s != "" {
		t.Errorf("blocked, yet %q arrived", s)
	}
	g.wait("miner", decided(b.id, event.ControlDetection, event.Prevented))
}
