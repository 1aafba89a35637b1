package policy

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// runSection is what a policy says about containers that run. A control that
// the policy does not speak of is the zero value.
type runSection struct {
	drift, fileless Switch
	exec            Exec
	files           Files
	network         Network
	metadata        Network // the deny of the metadata service, by itself
	detections      *detectionSection
	resources       Resources
}

func parseRun(v document.Value) *runSection {
	s := &runSection{}
	v.Map(document.Fields{
		"exec":       func(v document.Value) { s.parseExec(v) },
		"network":    func(v document.Value) { s.parseNetwork(v) },
		"detections": func(v document.Value) { s.detections = parseDetections(v) },
		"files":      func(v document.Value) { s.parseFiles(v) },
		"profile":    nil, "capabilities": nil, "syscalls": nil,
		"resources": func(v document.Value) { s.parseResources(v) },
	})
	return s
}

// parseEffect reads an effect that the control can have. Effects of the
// language that no mechanism of this version carries out are refused as such.
func parseEffect(v document.Value, known ...event.Effect) event.Effect {
	words := make([]string, len(known))
	for i, e := range known {
		words[i] = string(e)
		if v.Text == words[i] && v.Kind == document.String {
			return e
		}
	}
	if event.Effect(v.Text).Rank() >= 0 {
		v.Fail("the effect %q is not implemented for this control in this version: use one of %s", v.Text, strings.Join(words, ", "))
		return ""
	}
	v.Word(words...)
	return ""
}

func (s *runSection) parseExec(v document.Value) {
	e := Exec{Source: v.Source()}
	var effect event.Effect
	v.Map(document.Fields{
		"drift":    func(v document.Value) { s.drift = parseSwitch(v) },
		"fileless": func(v document.Value) { s.fileless = parseSwitch(v) },
		"allow":    func(v document.Value) { e.Restrict, e.Allow = true, parsePaths(v) },
		"deny":     func(v document.Value) { e.Deny = parsePaths(v) },
		"effect": func(v document.Value) {
			effect = parseEffect(v, event.EffectAlert, event.EffectBlock, event.EffectKill)
		},
	})
	switch lists := v.Has("allow") || v.Has("deny"); {
	case lists && effect == "":
		e.Effect = event.EffectBlock
	case lists:
		e.Effect = effect
	case v.Has("effect"):
		v.Fail("has an effect, but neither allow nor deny that it could be the effect of; drift and fileless have effects of their own")
	}
	s.exec = e
}

func (s *runSection) parseFiles(v document.Value) {
	f := Files{Effect: event.EffectBlock}
	v.Map(document.Fields{
		"deny":     func(v document.Value) { f.Deny = parsePaths(v) },
		"readOnly": func(v document.Value) { f.ReadOnly = parsePaths(v) },
		"effect": func(v document.Value) {
			f.Effect = parseEffect(v, event.EffectAlert, event.EffectBlock, event.EffectKill)
		},
	})
	if len(f.Deny)+len(f.ReadOnly) == 0 {
		if v.Has("effect") && !v.Has("deny") && !v.Has("readOnly") {
			v.Fail("has an effect, but neither deny nor readOnly that it could be the effect of")
		}
		return
	}
	s.files = f
}

// parseSwitch reads the effect of a control without a list; allow is off.
func parseSwitch(v document.Value) Switch {
	if v.Kind == document.String && v.Text == "allow" {
		return Switch{}
	}
	if v.Kind != document.String || event.Effect(v.Text).Rank() < 0 {
		v.Word("allow", "alert", "block", "kill") // says what is wrong
		return Switch{}
	}
	return Switch{On: true, Source: v.Source(), Effect: parseEffect(v, event.EffectAlert, event.EffectBlock, event.EffectKill)}
}

func parsePaths(v document.Value) []PathRule {
	rules := []PathRule{}
	v.List(maxPatterns, func(v document.Value) {
		pattern := v.String()
		if pattern == "" {
			return
		}
		if problem := badPathPattern(pattern); problem != "" {
			v.Fail("%q %s", pattern, problem)
			return
		}
		rules = append(rules, PathRule{Pattern: pattern, Source: v.Source()})
	})
	return rules
}

// maxPath is the kernel's PATH_MAX less its end.
const maxPath = 4095

func badPathPattern(pattern string) string {
	body := strings.TrimSuffix(strings.TrimSuffix(pattern, "/**"), "/*")
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return "is not an absolute path"
	case len(pattern) > maxPath:
		return "is longer than any path"
	case strings.ContainsAny(body, "*?["):
		return `may have "/*" or "/**" at its end only: the kernel decides by whole names`
	case body != "" && !isClean(body):
		return `is not in its shortest form: leave out "//", ".", ".." and a "/" at the end`
	case pattern == "/":
		return "is a folder, not a file"
	}
	return ""
}

func isClean(p string) bool {
	for _, part := range strings.Split(p[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

func (s *runSection) parseNetwork(v document.Value) {
	n := Network{Source: v.Source()}
	effect := event.EffectBlock
	v.Map(document.Fields{
		"egress":          func(v document.Value) { n.Restrict, n.Egress = true, parsePeers(v) },
		"deny":            func(v document.Value) { n.Deny = parsePeers(v) },
		"metadataService": func(v document.Value) { s.metadata = parseMetadata(v) },
		"effect":          func(v document.Value) { effect = parseEffect(v, event.EffectAlert, event.EffectBlock) },
	})
	if s.metadata.Deny != nil {
		s.metadata.Effect = effect
	}
	switch {
	case v.Has("egress") || v.Has("deny"):
		n.Effect = effect
	case v.Has("effect") && s.metadata.Deny == nil:
		v.Fail("has an effect, but neither egress, deny nor metadataService: deny that it could be the effect of")
	}
	s.network = n
}

// metadataAddresses are those under which the clouds' machines ask for their
// own credentials: AWS, Google, Azure, OpenStack, Oracle and others share the
// first; then AWS over IPv6, the credentials of AWS tasks, Google over IPv6,
// and Alibaba.
func metadataAddresses() []string {
	return []string{"169.254.169.254/32", "fd00:ec2::254/128", "169.254.170.2/32", "fd20:ce::254/128", "100.100.100.200/32"}
}

// IsMetadataService says whether the address is one under which a cloud hands
// out a machine's credentials.
func IsMetadataService(addr netip.Addr) bool {
	for _, text := range metadataAddresses() {
		if netip.MustParsePrefix(text).Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

func parseMetadata(v document.Value) Network {
	if v.Word("deny", "allow") != "deny" {
		return Network{}
	}
	n := Network{Source: v.Source()}
	for _, address := range metadataAddresses() {
		n.Deny = append(n.Deny, PeerRule{Prefix: netip.MustParsePrefix(address), Source: v.Source()})
	}
	return n
}

func parsePeers(v document.Value) []PeerRule {
	rules := []PeerRule{}
	v.List(maxPatterns, func(v document.Value) {
		var prefixes []netip.Prefix
		var ports []PortRange
		ok := v.Map(document.Fields{
			"to":    func(v document.Value) { prefixes = parsePeer(v) },
			"ports": func(v document.Value) { ports = parsePorts(v) },
		})
		if ok {
			v.Require("to")
		}
		for _, prefix := range prefixes {
			rules = append(rules, PeerRule{Prefix: prefix, Ports: ports, Source: v.Source()})
		}
	})
	return rules
}

// parsePeer reads an address, a network, or any.
func parsePeer(v document.Value) []netip.Prefix {
	text := v.String()
	if text == "any" {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	for _, kind := range []string{"service:", "dns:"} {
		if strings.HasPrefix(text, kind) {
			v.Fail("a peer by %s is not implemented in this version: give its address or network", strings.TrimSuffix(kind, ":"))
			return nil
		}
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		v.Fail("%q is neither an address (192.0.2.7), a network (192.0.2.0/24) nor any", text)
		return nil
	}
	if prefix.Addr().Is4In6() {
		v.Fail("%q is an IPv4 network written as IPv6: write it as IPv4", text)
		return nil
	}
	if prefix.Masked() != prefix {
		v.Fail("%q has bits set beyond its length: write %s, or the address without a length", text, prefix.Masked())
		return nil
	}
	return []netip.Prefix{prefix}
}

var portRange = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]{1,5})-([0-9]{1,5})$`) })

// maxPortRanges bounds the ports of one peer.
const maxPortRanges = 64

func parsePorts(v document.Value) []PortRange {
	var ports []PortRange
	v.List(maxPortRanges, func(v document.Value) {
		if m := portRange().FindStringSubmatch(v.Text); m != nil {
			first, _ := strconv.Atoi(m[1])
			last, _ := strconv.Atoi(m[2])
			if first < 1 || last > 65535 || first > last {
				v.Fail("%q is not a range of ports: write it as 8000-8099", v.Text)
			}
			ports = append(ports, PortRange{uint16(first), uint16(last)})
			return
		}
		port := uint16(v.Int(1, 65535))
		ports = append(ports, PortRange{port, port})
	})
	if len(ports) == 0 {
		v.Fail("is empty: name ports, or remove the field for every port")
	}
	return mergePorts(ports)
}
