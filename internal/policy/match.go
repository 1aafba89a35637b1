package policy

import (
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// Matches says whether the rule's pattern stands for that program: the exact
// path, "/*" for what lies in a folder, "/**" for everything below it.
func (r PathRule) Matches(path string) bool {
	if folder, ok := strings.CutSuffix(r.Pattern, "/**"); ok {
		return strings.HasPrefix(path, folder+"/") && len(path) > len(folder)+1
	}
	if folder, ok := strings.CutSuffix(r.Pattern, "/*"); ok {
		rest, inside := strings.CutPrefix(path, folder+"/")
		return inside && rest != "" && !strings.Contains(rest, "/")
	}
	return r.Pattern == path
}

// Judge says whether a program may run by the lists, and the rule that
// decided: the deny that matches, the allow that matches, or none.
func (e Exec) Judge(path string) (allowed bool, by PathRule) {
	matches := func(r PathRule) bool { return r.Matches(path) }
	if i := slices.IndexFunc(e.Deny, matches); i >= 0 {
		return false, e.Deny[i]
	}
	if !e.Restrict {
		return true, PathRule{}
	}
	if i := slices.IndexFunc(e.Allow, matches); i >= 0 {
		return true, e.Allow[i]
	}
	return false, PathRule{}
}

// Matches says whether the rule stands for that peer.
func (r PeerRule) Matches(addr netip.Addr, port uint16) bool {
	if !r.Prefix.Contains(addr.Unmap()) {
		return false
	}
	inside := func(p PortRange) bool { return p.First <= port && port <= p.Last }
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, inside)
}

// Judge says whether a peer may be talked to by the lists, and the rule that
// decided: the deny that matches, the egress that matches, or none.
func (n Network) Judge(addr netip.Addr, port uint16) (allowed bool, by PeerRule) {
	if addr.Unmap().IsLoopback() {
		return true, PeerRule{}
	}
	matches := func(r PeerRule) bool { return r.Matches(addr, port) }
	if i := slices.IndexFunc(n.Deny, matches); i >= 0 {
		return false, n.Deny[i]
	}
	if !n.Restrict {
		return true, PeerRule{}
	}
	if i := slices.IndexFunc(n.Egress, matches); i >= 0 {
		return true, n.Egress[i]
	}
	return false, PeerRule{}
}

// intersectPaths holds exactly the paths that both lists hold. A rule of the
// result is the narrower one of the two that met.
func intersectPaths(a, b []PathRule) []PathRule {
	result := []PathRule{}
	seen := map[string]bool{}
	for _, x := range a {
		for _, y := range b {
			narrow, ok := narrower(x, y)
			if ok && !seen[narrow.Pattern] {
				seen[narrow.Pattern] = true
				result = append(result, narrow)
			}
		}
	}
	sortPaths(result)
	return result
}

// narrower intersects two patterns. Any two of them are disjoint or one holds
// the other: a tree or a folder reaches into another only from its root.
func narrower(x, y PathRule) (PathRule, bool) {
	if holds(x.Pattern, y.Pattern) {
		return y, true
	}
	if holds(y.Pattern, x.Pattern) {
		return x, true
	}
	return PathRule{}, false
}

// holds says whether every path of the pattern inner is one of outer.
func holds(outer, inner string) bool {
	if outer == inner {
		return true
	}
	// No path of the file system has a NUL in it, so no exact outer is the
	// representative of a folder.
	const some = "/\x00"
	rule := PathRule{Pattern: outer}
	if folder, ok := strings.CutSuffix(inner, "/**"); ok {
		return strings.HasSuffix(outer, "/**") && rule.Matches(folder+some)
	}
	if folder, ok := strings.CutSuffix(inner, "/*"); ok {
		return rule.Matches(folder + some)
	}
	return rule.Matches(inner)
}

// intersectPeers holds exactly the peers that both lists hold.
func intersectPeers(a, b []PeerRule) []PeerRule {
	result := []PeerRule{}
	for _, x := range a {
		for _, y := range b {
			if r, ok := intersectPeer(x, y); ok && !slices.ContainsFunc(result, r.same) {
				result = append(result, r)
			}
		}
	}
	return result
}

func (r PeerRule) same(other PeerRule) bool {
	return r.Prefix == other.Prefix && slices.Equal(r.Ports, other.Ports)
}

func intersectPeer(x, y PeerRule) (PeerRule, bool) {
	if !x.Prefix.Overlaps(y.Prefix) {
		return PeerRule{}, false
	}
	narrow := x
	if y.Prefix.Bits() > x.Prefix.Bits() {
		narrow = y
	}
	switch {
	case len(x.Ports) == 0:
		narrow.Ports = y.Ports
	case len(y.Ports) == 0:
		narrow.Ports = x.Ports
	default:
		narrow.Ports = intersectPorts(x.Ports, y.Ports)
		if len(narrow.Ports) == 0 {
			return PeerRule{}, false
		}
	}
	return narrow, true
}

func intersectPorts(a, b []PortRange) []PortRange {
	var result []PortRange
	for _, x := range a {
		for _, y := range b {
			if first, last := max(x.First, y.First), min(x.Last, y.Last); first <= last {
				result = append(result, PortRange{first, last})
			}
		}
	}
	return mergePorts(result)
}

// mergePorts sorts ranges and joins those that touch.
func mergePorts(ports []PortRange) []PortRange {
	sort.Slice(ports, func(i, j int) bool { return ports[i].First < ports[j].First })
	var merged []PortRange
	for _, p := range ports {
		if n := len(merged); n > 0 && int(p.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, p.Last)
			continue
		}
		merged = append(merged, p)
	}
	return merged
}
