package detect

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Count is what a detection wants of several events of one container before it
// fires: more than MoreThan distinct values of Of, within Within of one another,
// among events that have the same values of By. It never changes.
type Count struct {
	Of       string // one of countable
	By       []string
	MoreThan int
	Within   time.Duration
}

// The bounds of what one detection may count.
const (
	maxMoreThan = 2_000
	maxWithin   = 10 * time.Minute
)

// countable are the facts of events that can be told apart and counted.
func countable() []string {
	return []string{"process", "network.address", "network.port", "network.peer", "dns.name", "dns.domain"}
}

// countedFact is "" where an event does not have the fact; it is not counted then.
func countedFact(name string, ev event.Event) string {
	switch name {
	case "process":
		return orEmpty(ev.Process).ID
	case "network.address":
		return address(ev.Network)
	case "network.port":
		return port(ev.Network)
	case "network.peer":
		if port(ev.Network) == "" {
			return ""
		}
		return address(ev.Network) + " " + port(ev.Network)
	case "dns.name":
		return orEmpty(ev.DNS).Name
	case "dns.domain":
		return domain(orEmpty(ev.DNS).Name)
	default:
		return ""
	}
}

// valuesOf are the event's value that is counted, and those that it is counted by.
func (c *Count) valuesOf(ev event.Event) (value, by string, ok bool) {
	value = countedFact(c.Of, ev)
	for _, name := range c.By {
		v := countedFact(name, ev)
		if v == "" {
			return "", "", false
		}
		by += v + "\x00"
	}
	return value, by, value != ""
}

func address(n *event.Network) string {
	a, err := netip.ParseAddr(orEmpty(n).Address)
	if err != nil {
		return ""
	}
	return a.Unmap().String()
}

func port(n *event.Network) string {
	if orEmpty(n).Port == 0 {
		return ""
	}
	return strconv.Itoa(n.Port)
}

// domain is the part of a name that somebody registered: one label below a public
// suffix, of the list at https://publicsuffix.org. Names that have no such part
// (one label, a suffix itself) are their own.
func domain(name string) string {
	d, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name
	}
	return d
}

// countedKinds are the kinds of events that may be counted: of others the kernel
// tells only some. An execution, and the fork before it, that nothing came of is
// not told again; an exit is told of those processes alone; a file's opening is told
// once a process.
func countedKinds() []event.Kind {
	return []event.Kind{event.KindConnect, event.KindFlow, event.KindDNS, event.KindSocket, event.KindListen}
}

func parseCount(v document.Value) *Count {
	c := &Count{}
	words := countable()
	ok := v.Map(document.Fields{
		"of": func(v document.Value) { c.Of = v.Word(words...) },
		"by": func(v document.Value) {
			v.List(len(words), func(v document.Value) { c.By = append(c.By, v.Word(words...)) })
		},
		"moreThan": func(v document.Value) { c.MoreThan = v.Int(1, maxMoreThan) },
		"within":   func(v document.Value) { c.Within = parseWithin(v) },
	})
	if ok {
		v.Require("of", "moreThan", "within")
	}
	if c.Of != "" && slices.Contains(c.By, c.Of) {
		v.Fail("counts the distinct values of %s among events that have the same one: there is never more than one", c.Of)
	}
	return c
}

func parseWithin(v document.Value) time.Duration {
	text := v.String()
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d < time.Second || d > maxWithin) {
		v.Fail("%q is not a time from 1s to %s, written as 10s or 5m", text, strings.TrimSuffix(maxWithin.String(), "0s"))
	}
	return d
}

// checkCount reports what does not go together with counting.
func (r *Rule) checkCount(v document.Value) {
	if r.Count == nil {
		return
	}
	for _, kind := range r.Kinds {
		if !slices.Contains(countedKinds(), kind) {
			v.Fail("cannot count %s events: the kernel tells only those that are new, so a count of them is no count; connect, flow, dns, socket and listen can be counted", kind)
		}
	}
	if r.Kernel != "" {
		v.Fail("counts, and names a mechanism in the kernel (%s), which decides about single acts: have one of both", r.Kernel)
	}
	r.sentence = template(strings.NewReplacer("{count}", strconv.Itoa(r.Count.MoreThan), "{within}", inWords(r.Count.Within)).Replace(string(r.sentence)))
}

// inWords tells a time as sentences do.
func inWords(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(int(d/time.Second)) + " s"
}
