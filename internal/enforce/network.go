package enforce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// netEntry is one entry of the kernel's trie of peers, in 128 bits.
type netEntry struct {
	prefix netip.Prefix
	rules  bpf.NetRules
}

// mappedV4 is where IPv4 lives among the IPv6 addresses. A policy's ::/0 does
// not mean it.
var mappedV4 = netip.MustParsePrefix("::ffff:0:0/96")

// widen turns a prefix into its 128-bit form.
func widen(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
		return p, fmt.Errorf("peer %v: not a masked IPv4 or IPv6 prefix", p)
	}
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96), nil
	}
	return p, nil
}

// wide is a peer rule with its prefix in 128 bits.
type wide struct {
	prefix netip.Prefix
	v4     bool
	deny   bool
	rule   uint16
	ports  []policy.PortRange
}

// applies tells whether the rule holds for all addresses of an entry.
func (w wide) applies(entry netip.Prefix, v4 bool) bool {
	return w.v4 == v4 && w.prefix.Bits() <= entry.Bits() && w.prefix.Contains(entry.Addr())
}

// compileNetwork flattens the peer lists so that the longest match carries
// every rule that holds for its addresses: a deny beats an allow.
func compileNetwork(n policy.Network) ([]netEntry, []policy.PeerRule, error) {
	names := append(append([]policy.PeerRule{}, n.Deny...), n.Egress...)
	if len(names) > 1<<16-2 {
		return nil, nil, fmt.Errorf("%d network rules: at most %d", len(names), 1<<16-2)
	}
	var rules []wide
	prefixes := []netip.Prefix{}
	for i, r := range names {
		p, err := widen(r.Prefix)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", r.Source, err)
		}
		rules = append(rules, wide{prefix: p, v4: r.Prefix.Addr().Is4(), deny: i < len(n.Deny), rule: uint16(i + 1), ports: r.Ports})
		prefixes = append(prefixes, p)
	}
	if len(rules) > 0 {
		prefixes = append(prefixes, mappedV4)
	}
	prefixes = sortUnique(prefixes, netip.Prefix.Compare)
	var entries []netEntry
	for _, p := range prefixes {
		v4 := p.Bits() >= 96 && mappedV4.Contains(p.Addr())
		ports, err := flatten(rules, p, v4)
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, netEntry{prefix: p, rules: ports})
	}
	return entries, names, nil
}

// flatten cuts the ports into ranges with one verdict each.
func flatten(rules []wide, entry netip.Prefix, v4 bool) (bpf.NetRules, error) {
	var out bpf.NetRules
	cuts := []int{0}
	var holding []wide
	for _, r := range rules {
		if !r.applies(entry, v4) {
			continue
		}
		if len(r.ports) == 0 {
			r.ports = []policy.PortRange{{First: 0, Last: 65535}}
		}
		holding = append(holding, r)
		for _, p := range r.ports {
			cuts = append(cuts, int(p.First), int(p.Last)+1)
		}
	}
	cuts = sortUnique(cuts, cmp.Compare)
	for i, from := range cuts {
		to := 65535
		if i+1 < len(cuts) {
			to = cuts[i+1] - 1
		}
		if from > 65535 {
			break
		}
		verdict, rule := portVerdict(holding, uint16(from))
		if verdict == bpf.VerdictNone {
			continue
		}
		if !appendRange(&out, uint16(from), uint16(to), verdict, rule) {
			return out, fmt.Errorf("peer %v: its rules cut the ports into more than %d ranges", entry, len(out.Ports))
		}
	}
	return out, nil
}

// portVerdict: denials stand first in the list.
func portVerdict(holding []wide, port uint16) (verdict uint8, rule uint16) {
	for _, r := range holding {
		inside := slices.ContainsFunc(r.ports, func(p policy.PortRange) bool { return p.First <= port && port <= p.Last })
		switch {
		case inside && r.deny:
			return bpf.VerdictDeny, r.rule
		case inside:
			return bpf.VerdictAllow, r.rule
		}
	}
	return bpf.VerdictNone, 0
}

// appendRange adds a range, or widens the last; false when there is no room.
func appendRange(r *bpf.NetRules, first, last uint16, verdict uint8, rule uint16) bool {
	if r.Count > 0 {
		p := &r.Ports[r.Count-1]
		if p.Verdict == verdict && p.Rule == rule && p.Last+1 == first {
			p.Last = last
			return true
		}
	}
	if int(r.Count) == len(r.Ports) {
		return false
	}
	p := &r.Ports[r.Count]
	p.First, p.Last, p.Verdict, p.Rule = first, last, verdict, rule
	r.Count++
	return true
}

func (e netEntry) key(slot uint32) bpf.NetKey {
	return bpf.NetKey{Prefixlen: uint32(32 + e.prefix.Bits()), Slot: slot, Addr: e.prefix.Addr().As16()}
}
