package detect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxSeries is how many events one example of a counting detection may be.
const maxSeries = 5_000

// example is what a rule must, or must not, fire on: an event, or several one after
// the other.
type example struct {
	parts  []series
	times  int // of all parts
	source string
}

// parseExamples reads events in the JSON form of event.Event, series of them, and
// lists of both that come one after the other.
func parseExamples(v document.Value) []example {
	var list []example
	v.List(maxExamples, func(v document.Value) {
		x := example{source: v.Source()}
		if v.Kind == document.List {
			v.List(maxExamples, func(v document.Value) { x.parse(v) })
		} else {
			x.parse(v)
		}
		list = append(list, x)
	})
	return list
}

// parse takes up one event, or a series.
func (x *example) parse(v document.Value) {
	s := series{times: 1}
	if v.Kind == document.Map && v.Has("event") {
		ok := v.Map(document.Fields{
			"times": func(v document.Value) { s.times = v.Int(1, maxSeries) },
			"every": func(v document.Value) { s.every = parseEvery(v) },
			"vary":  func(v document.Value) { s.vary = v.Word(countable()...) },
			"event": func(v document.Value) { s.first = parseEvent(v) },
		})
		if !ok {
			return
		}
	} else {
		s.first = parseEvent(v)
	}
	if x.times += s.times; x.times > maxSeries {
		v.Fail("with it the example has %d events; at most %d are accepted", x.times, maxSeries)
		return
	}
	x.parts = append(x.parts, s)
}

// events are those of the example, one after the other. They are made as they are
// asked for: a file of a few lines may stand for a million.
func (x *example) events(yield func(event.Event) bool) {
	at := time.Unix(0, 0).UTC()
	for _, s := range x.parts {
		for i := range s.times {
			ev := s.at(i)
			if i > 0 {
				at = at.Add(s.every)
			}
			ev.Time = at
			if !yield(ev) {
				return
			}
		}
	}
}

func parseEvery(v document.Value) time.Duration {
	text := v.String()
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d < 0 || d > time.Hour) {
		v.Fail("%q is not a time from 0s to 1h, written as 50ms or 10s", text)
	}
	return d
}

func parseEvent(v document.Value) (ev event.Event) {
	raw, err := json.Marshal(v.Plain())
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&ev)
	}
	switch {
	case err != nil:
		v.Fail("is not an event: %v", err)
	case ev.Kind == "":
		v.Fail("is an event without a kind")
	}
	return ev
}

// series is an event that happens several times, each time with another value of
// one fact.
type series struct {
	first event.Event
	times int
	every time.Duration
	vary  string
}

// at is the i-th event: its port or address is the i-th after that of the first one,
// its process another one, and in its name {n} stands for four digits that no other has.
func (s *series) at(i int) event.Event {
	ev := s.first
	if s.vary == "" {
		return ev
	}
	process, network, dns := *orEmpty(ev.Process), *orEmpty(ev.Network), *orEmpty(ev.DNS)
	switch s.vary {
	case "process":
		process.ID = fmt.Sprintf("%s-%d", process.ID, i)
		ev.Process = &process
	case "network.port":
		network.Port += i
		ev.Network = &network
	case "network.address", "network.peer":
		network.Address = addressAfter(network.Address, i)
		ev.Network = &network
	case "dns.name", "dns.domain":
		dns.Name = strings.ReplaceAll(dns.Name, "{n}", fmt.Sprintf("%04x", uint16(i)*40503)) // odd: no two alike
		ev.DNS = &dns
	}
	return ev
}

func addressAfter(text string, i int) string {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	raw := a.AsSlice()
	last := raw[len(raw)-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)+uint32(i))
	next, _ := netip.AddrFromSlice(raw) // of a right length
	return next.String()
}
