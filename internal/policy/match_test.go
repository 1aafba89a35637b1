package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The intersection of two lists must hold exactly what both hold: too little
// stops a service, too much lets an attacker through. Random lists over a
// small world meet every combination of exact, folder and tree.

func TestIntersectPathsHoldsExactlyWhatBothHold(t *testing.T) {
	names := []string{"a", "b", "ab"}
	var world []string
	for _, x := range names {
		world = append(world, "/"+x)
		for _, y := range names {
			world = append(world, "/"+x+"/"+y)
			for _, z := range names {
				world = append(world, "/"+x+"/"+y+"/"+z, "/"+x+"/"+y+"/"+z+"/a")
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3_000 {
		a, b := randomPaths(random, world), randomPaths(random, world)
		both := Exec{Restrict: true, Allow: intersectPaths(a, b)}
		for _, path := range world {
			inA, _ := Exec{Restrict: true, Allow: a}.Judge(path)
			inB, _ := Exec{Restrict: true, Allow: b}.Judge(path)
			if got, _ := both.Judge(path); got != (inA && inB) {
				t.Fatalf("%s: %v ∩ %v = %v holds it: %v; the first: %v, the second: %v", path, a, b, both.Allow, got, inA, inB)
			}
		}
	}
}

func randomPaths(random *rand.Rand, world []string) []PathRule {
	var rules []PathRule
	for range 1 + random.IntN(3) {
		pattern := world[random.IntN(len(world))]
		switch random.IntN(4) {
		case 0:
			pattern += "/*"
		case 1:
			pattern += "/**"
		case 2:
			if random.IntN(5) == 0 {
				pattern = "/**"
			}
		}
		rules = append(rules, PathRule{Pattern: pattern})
	}
	return rules
}

func TestIntersectPeersHoldsExactlyWhatBothHold(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2_000 {
		a, b := randomPeers(random), randomPeers(random)
		both := Network{Restrict: true, Egress: intersectPeers(a, b)}
		for i := range 16 {
			for _, format := range []string{"10.0.0.%d", "fd00::%x", "::ffff:10.0.0.%d"} {
				addr := netip.MustParseAddr(fmt.Sprintf(format, i))
				for port := uint16(1); port <= 8; port++ {
					inA, _ := Network{Restrict: true, Egress: a}.Judge(addr, port)
					inB, _ := Network{Restrict: true, Egress: b}.Judge(addr, port)
					if got, _ := both.Judge(addr, port); got != (inA && inB) {
						t.Fatalf("%s port %d: %v ∩ %v = %v holds it: %v; want %v", addr, port, a, b, both.Egress, got, inA && inB)
					}
				}
			}
		}
	}
}

func randomPeers(random *rand.Rand) []PeerRule {
	var rules []PeerRule
	for range random.IntN(4) {
		var rule PeerRule
		if random.IntN(2) == 0 {
			rule.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(16))}), 28+random.IntN(5)).Masked()
		} else {
			addr := netip.MustParseAddr(fmt.Sprintf("fd00::%x", random.IntN(16)))
			rule.Prefix = netip.PrefixFrom(addr, 124+random.IntN(5)).Masked()
		}
		for range random.IntN(3) {
			first := uint16(1 + random.IntN(8))
			rule.Ports = append(rule.Ports, PortRange{first, first + uint16(random.IntN(4))})
		}
		rule.Ports = mergePorts(rule.Ports)
		rules = append(rules, rule)
	}
	return rules
}

func TestLoopbackIsAlwaysAllowed(t *testing.T) {
	n := Network{Restrict: true, Deny: []PeerRule{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}}
	for _, addr := range []string{"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"} {
		if ok, _ := n.Judge(netip.MustParseAddr(addr), 80); !ok {
			t.Errorf("%s is refused", addr)
		}
	}
	if ok, _ := n.Judge(netip.MustParseAddr("::ffff:10.0.0.1"), 80); ok {
		t.Error("an IPv4 address passes when it is written as IPv6")
	}
}

func TestMergePortsAtTheEdges(t *testing.T) {
	got := mergePorts([]PortRange{{65535, 65535}, {1, 65534}})
	if !slices.Equal(got, []PortRange{{1, 65535}}) {
		t.Errorf("got %v", got)
	}
}

func TestHostPatternsTakeBoundedTime(t *testing.T) {
	p := hostPattern{parts: split("/**/a/**")}
	if p.exposedBy(strings.Repeat("/b", 2000)) != true {
		t.Error("a folder in which the pattern may go on is not seen as exposing it")
	}
	if p.matches(strings.Repeat("/b", 2000)) {
		t.Error("matches without an a")
	}
}
