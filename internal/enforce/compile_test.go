package enforce

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// trieVerdict answers as the kernel does: by the longest match.
func trieVerdict(entries []pathEntry, path string) uint8 {
	dir := path[:strings.LastIndexByte(path, '/')+1]
	best, verdict := -1, uint8(bpf.VerdictNone)
	for _, e := range entries {
		folder := e.rule.Len != 0
		if !folder && e.path == path {
			return e.rule.One
		}
		if folder && strings.HasPrefix(path, e.path) && len(e.path) > best {
			best, verdict = len(e.path), e.rule.Deep
			if e.path == dir {
				verdict = e.rule.One
			}
		}
	}
	return verdict
}

// plainVerdict answers as the language says it: a deny beats an allow.
func plainVerdict(x policy.Exec, path string) uint8 {
	matches := func(rules []policy.PathRule) bool {
		for _, r := range rules {
			dir, one := strings.CutSuffix(r.Pattern, "/*")
			tree, deep := strings.CutSuffix(r.Pattern, "/**")
			rest, below := strings.CutPrefix(path, dir+"/")
			if r.Pattern == path || one && below && !strings.Contains(rest, "/") || deep && strings.HasPrefix(path, tree+"/") {
				return true
			}
		}
		return false
	}
	switch {
	case matches(x.Deny):
		return bpf.VerdictDeny
	case matches(x.Allow):
		return bpf.VerdictAllow
	}
	return bpf.VerdictNone
}

func TestCompiledPathsSayWhatThePolicySays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	path := func() string {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			fmt.Fprintf(&b, "/%c", 'a'+rune(r.IntN(3)))
		}
		return b.String()
	}
	rules := func() (list []policy.PathRule) {
		for range r.IntN(5) {
			list = append(list, policy.PathRule{Pattern: path() + []string{"", "/*", "/**"}[r.IntN(3)]})
		}
		if r.IntN(8) == 0 {
			list = append(list, policy.PathRule{Pattern: "/**"})
		}
		return list
	}
	for range 3000 {
		x := policy.Exec{Restrict: true, Allow: rules(), Deny: rules()}
		entries, _, err := compilePaths(x)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			p := path()
			if got, want := trieVerdict(entries, p), plainVerdict(x, p); got != want {
				t.Fatalf("%s: %d, want %d\nallow %v\ndeny %v", p, got, want, x.Allow, x.Deny)
			}
		}
	}
}

func TestCompiledNetworkSaysWhatThePolicySays(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	addr := func() netip.Addr {
		if r.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 15: byte(r.IntN(4))})
		}
		return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(4))})
	}
	rules := func() (list []policy.PeerRule) {
		for range r.IntN(4) {
			a := addr()
			p := netip.PrefixFrom(a, []int{0, 8, a.BitLen() - 8, a.BitLen() - 1, a.BitLen()}[r.IntN(5)]).Masked()
			rule := policy.PeerRule{Prefix: p}
			for range r.IntN(3) {
				first := uint16(r.IntN(6))
				rule.Ports = append(rule.Ports, policy.PortRange{First: first, Last: first + uint16(r.IntN(3))})
			}
			list = append(list, rule)
		}
		return list
	}
	for range 3000 {
		n := policy.Network{Restrict: true, Egress: rules(), Deny: rules()}
		entries, _, err := compileNetwork(n)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			a, port := addr(), uint16(r.IntN(9))
			if got, want := netVerdict(entries, a, port), plainPeer(n, a, port); got != want {
				t.Fatalf("%v:%d: %d, want %d\nallow %v\ndeny %v", a, port, got, want, n.Egress, n.Deny)
			}
		}
	}
}

func netVerdict(entries []netEntry, a netip.Addr, port uint16) uint8 {
	a = netip.AddrFrom16(a.As16())
	var best *netEntry
	for i, e := range entries {
		if (best == nil || e.prefix.Bits() > best.prefix.Bits()) && contains128(e.prefix, a) {
			best = &entries[i]
		}
	}
	if best != nil {
		for _, p := range best.rules.Ports[:best.rules.Count] {
			if p.First <= port && port <= p.Last {
				return p.Verdict
			}
		}
	}
	return bpf.VerdictNone
}

// contains128 compares bits, as the trie does: netip keeps the families apart.
func contains128(p netip.Prefix, a netip.Addr) bool {
	x, y := p.Addr().As16(), a.As16()
	for i := range p.Bits() {
		if (x[i/8]^y[i/8])&(0x80>>(i%8)) != 0 {
			return false
		}
	}
	return true
}

func plainPeer(n policy.Network, a netip.Addr, port uint16) uint8 {
	matches := func(rules []policy.PeerRule) bool {
		for _, r := range rules {
			inside := len(r.Ports) == 0
			for _, p := range r.Ports {
				inside = inside || p.First <= port && port <= p.Last
			}
			if inside && r.Prefix.Contains(a) {
				return true
			}
		}
		return false
	}
	switch {
	case matches(n.Deny):
		return bpf.VerdictDeny
	case matches(n.Egress):
		return bpf.VerdictAllow
	}
	return bpf.VerdictNone
}

func TestCompileRefuses(t *testing.T) {
	for _, p := range []string{"relative", "", "/a//b", "/a/../b", "/a/", "/a*", "/a/*/b", "/a/?", "/", "/" + strings.Repeat("x", 300), "/a\x00b"} {
		_, err := compile(policy.Run{Exec: policy.Exec{Deny: []policy.PathRule{{Pattern: p, Source: "f.yaml:3"}}}})
		if err == nil || !strings.Contains(err.Error(), "f.yaml:3") {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8), netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		if _, err := compile(policy.Run{Network: policy.Network{Deny: []policy.PeerRule{{Prefix: p}}}}); err == nil {
			t.Errorf("%v was accepted", p)
		}
	}
	many := policy.PeerRule{Prefix: netip.MustParsePrefix("10.0.0.0/8")}
	for i := range 40 {
		many.Ports = append(many.Ports, policy.PortRange{First: uint16(2 * i), Last: uint16(2 * i)})
	}
	if _, err := compile(policy.Run{Network: policy.Network{Deny: []policy.PeerRule{many}}}); err == nil {
		t.Error("40 separate ports were accepted")
	}
}

func TestModes(t *testing.T) {
	on := policy.Switch{On: true, Effect: event.EffectBlock}
	for _, test := range []struct {
		name    string
		run     policy.Run
		control int
		want    uint8
	}{
		{"off", policy.Run{}, bpf.ControlDrift, bpf.ModeOff},
		{"block", policy.Run{Drift: on}, bpf.ControlDrift, bpf.ModeBlock},
		{"stop is at least kill", policy.Run{Drift: policy.Switch{On: true, Effect: event.EffectStop}}, bpf.ControlDrift, bpf.ModeKill},
		{"throttle only records here", policy.Run{Drift: policy.Switch{On: true, Effect: event.EffectThrottle}}, bpf.ControlDrift, bpf.ModeDetect},
		{"audit of all", policy.Run{Audit: true, Drift: on}, bpf.ControlDrift, bpf.ModeDetect},
		{"audit of one", policy.Run{Drift: policy.Switch{On: true, Effect: event.EffectKill, Audit: true}}, bpf.ControlDrift, bpf.ModeDetect},
		{"always on, audited", policy.Run{Audit: true}, bpf.ControlReleaseAgent, bpf.ModeKill},
		{"always on, disabled", policy.Run{Detections: map[string]policy.DetectionSetting{sensor.DetectionReverseShell: {Disabled: true}}}, bpf.ControlReverseShell, bpf.ModeKill},
		{"always on, waived", policy.Run{Waivers: []policy.Waiver{{Detection: sensor.DetectionCorePattern}}}, bpf.ControlCorePattern, bpf.ModeOff},
		{"miner, no policy responds", policy.Run{}, bpf.ControlMiner, bpf.ModeDetect},
		{"miner", policy.Run{Respond: true}, bpf.ControlMiner, bpf.ModeKill},
		{"miner, observed", policy.Run{Respond: true, Observe: true}, bpf.ControlMiner, bpf.ModeDetect},
		{"reverse shell, observed", policy.Run{Observe: true}, bpf.ControlReverseShell, bpf.ModeDetect},
		{"miner, alert", policy.Run{Detections: map[string]policy.DetectionSetting{sensor.DetectionMiner: {Effect: event.EffectAlert}}}, bpf.ControlMiner, bpf.ModeDetect},
		{"miner, disabled", policy.Run{Detections: map[string]policy.DetectionSetting{sensor.DetectionMiner: {Disabled: true}}}, bpf.ControlMiner, bpf.ModeOff},
	} {
		c, err := compile(test.run)
		if err != nil || c.slot.Mode[test.control] != test.want {
			t.Errorf("%s: mode %d, %v", test.name, c.slot.Mode[test.control], err)
		}
	}
}
