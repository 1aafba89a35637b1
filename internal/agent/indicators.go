package agent

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

const (
	// maxIndicators bounds what is held in memory: 100 bytes each.
	maxIndicators = 1_000_000
	// indicatorAgain is how long the same container and peer is told once.
	indicatorAgain = time.Hour
	maxToldPeers   = 4096
)

// indicators are the peers of the network that intelligence warns of. Contacts
// are told, not stopped: that takes a promotion. Safe for concurrent use.
type indicators struct {
	mu       sync.Mutex
	networks map[netip.Prefix]intel.Indicator // an address is a network of its own
	lengths  map[int]bool                     // of the prefixes, by bits, IPv6 ones + 1000
	domains  map[string]intel.Indicator       // in lower case, without a dot at the end
	told     map[string]time.Time             // by container and peer
}

// load replaces all by those of a bundle. left are those that are no address,
// network or domain, or more than are held: the others count.
func (x *indicators) load(all iter.Seq2[intel.Indicator, error]) (left leavings, err error) {
	networks, lengths, domains := map[netip.Prefix]intel.Indicator{}, map[int]bool{}, map[string]intel.Indicator{}
	for i, err := range all {
		if err != nil {
			return left, fmt.Errorf("network indicators: %w", err)
		}
		var p netip.Prefix
		switch {
		case len(networks)+len(domains) >= maxIndicators:
			err = fmt.Errorf("more than %d are not held", maxIndicators)
		case i.Kind != feed.KindDomain:
			p, err = prefixOf(i.Value)
		case !feed.IsDomain(i.Value):
			err = errors.New("is no domain")
		}
		if err != nil {
			left.add(fmt.Errorf("%s of %s: %w", i.Value, i.Source, err))
			continue
		}
		if i.Kind == feed.KindDomain {
			domains[i.Value] = i
			continue
		}
		networks[p] = i
		lengths[length(p.Addr(), p.Bits())] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.networks, x.lengths, x.domains = networks, lengths, domains
	return left, nil
}

// prefixOf reads an address or a network, in the one form that connections have.
func prefixOf(value string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(value); err == nil {
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(value)
	if err != nil || p.Addr().Is4In6() {
		return p, errors.New("is no address or network")
	}
	return p.Masked(), nil
}

func length(a netip.Addr, bits int) int {
	if a.Is4() {
		return bits
	}
	return 1000 + bits
}

// each gives all that count now.
func (x *indicators) each(now time.Time, f func(netip.Prefix, intel.Indicator)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, i := range x.networks {
		if i.Ends.IsZero() || now.Before(i.Ends) {
			f(p, i)
		}
	}
}

// tellAgain forgets what was told.
func (x *indicators) tellAgain() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.told = nil
}

// find is the indicator that an address falls under, the closest one.
func (x *indicators) find(address string, now time.Time) (intel.Indicator, bool) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return intel.Indicator{}, false
	}
	addr = addr.Unmap()
	x.mu.Lock()
	defer x.mu.Unlock()
	for bits := addr.BitLen(); bits >= 0; bits-- {
		if !x.lengths[length(addr, bits)] {
			continue
		}
		p, err := addr.Prefix(bits)
		if i, ok := x.networks[p]; err == nil && ok && (i.Ends.IsZero() || now.Before(i.Ends)) {
			return i, true
		}
	}
	return intel.Indicator{}, false
}

// first says whether a contact was not told within the last hour.
func (x *indicators) first(key string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at, ok := x.told[key]; ok && now.Sub(at) < indicatorAgain {
		return false
	}
	if len(x.told) >= maxToldPeers || x.told == nil {
		x.told = map[string]time.Time{}
	}
	x.told[key] = now
	return true
}

// isPromoted says whether the kernel refused a connection because of a promoted
// indicator.
func isPromoted(ev event.Event) bool {
	d := ev.Decision
	return d != nil && d.Control == event.ControlNetwork && d.Outcome == event.Prevented && strings.Contains(d.Rule, "("+promotedSource)
}

// contacting names the process that got in touch with a peer, and its container.
func contacting(ev event.Event) string {
	container, process := ev.Container.Name, "a process"
	if container == "" {
		container = short(ev.Container.ID)
	}
	if ev.Process != nil && ev.Process.Comm != "" {
		process = "`" + ev.Process.Comm + "`"
	}
	return process + " in `" + container + "`"
}

// malicious is what an indicator tells of.
func malicious(i intel.Indicator) string { return cmp.Or(i.Name, "malicious software") }

// contact is the incident of a connection to a peer that intelligence warns of.
func (x *indicators) contact(ev event.Event) (event.Incident, bool) {
	if ev.Kind != event.KindConnect || ev.Network == nil || ev.Container == nil {
		return event.Incident{}, false
	}
	now := time.Now()
	i, ok := x.find(ev.Network.Address, now)
	refused := isPromoted(ev)
	if !ok && refused { // intelligence forgot it; the administrator did not
		i, ok = intel.Indicator{Value: ev.Network.Address, Source: "an administrator"}, true
	}
	if !ok || !x.first(fmt.Sprint(ev.Container.ID, " ", ev.Network.Address, refused), now) {
		return event.Incident{}, false
	}
	who, name := contacting(ev), malicious(i)
	d := event.Decision{Control: event.ControlNetwork, Effect: event.EffectAlert, Outcome: event.Detected, Rule: "intelligence",
		Why: fmt.Sprintf("%s is listed by %s as %s. Intelligence warns; to stop it, promote the indicator.", i.Value, i.Source, name)}
	verb, done := "contacted", ""
	if refused {
		d.Effect, d.Generation = event.EffectBlock, ev.Decision.Generation
		d.Why = fmt.Sprintf("%s is listed by %s as %s, and an administrator promoted it: connections to it are refused.", i.Value, i.Source, name)
		verb, done = "tried to reach", "; the connection was refused"
	}
	if k := ev.Decision; k != nil && (k.Outcome == event.Prevented || k.Outcome == event.Killed) {
		d.Outcome, d.Mechanism = k.Outcome, k.Mechanism
	}
	return event.Incident{Key: "indicator/" + ev.Key, Time: ev.Time, Host: ev.Host, Severity: event.SeverityHigh, Title: "Contact with a known malicious peer", Detection: "network-indicator",
		Sentence: fmt.Sprintf("%s %s `%s` port %d, which %s lists as %s%s.", who, verb, ev.Network.Address, ev.Network.Port, i.Source, name, done),
		Decision: d, Container: ev.Container, Event: ev}, true
}
