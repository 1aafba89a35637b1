package agent

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// findDomain is the indicator that a name falls under: the closest listed domain
// that it is, or is below of.
func (x *indicators) findDomain(name string, now time.Time) (intel.Indicator, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.domains) == 0 {
		return intel.Indicator{}, false
	}
	for at := range domains(name) {
		if i, ok := x.domains[at]; ok && (i.Ends.IsZero() || now.Before(i.Ends)) {
			return i, true
		}
	}
	return intel.Indicator{}, false
}

// domains gives a name and every domain above it.
func domains(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && yield(name); {
			_, name, _ = strings.Cut(name, ".")
		}
	}
}

// domain says whether an administrator promoted an indicator, or the domain that
// a name falls under by itself; listed says whether intelligence lists it.
func (p *promotions) domain(name string, i intel.Indicator, listed bool, now time.Time) (intel.Indicator, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.list {
		if x.Kind != api.PromoteIndicator || !x.Ends.IsZero() && !now.Before(x.Ends) {
			continue
		}
		if x.Value == "" && listed && (x.Source == "" || x.Source == i.Source) {
			return i, true
		}
		for at := range domains(name) {
			if x.Value == at {
				if !listed { // intelligence forgot it; the administrator did not
					i = intel.Indicator{Value: at, Source: cmp.Or(x.Source, "an administrator")}
				}
				return i, true
			}
		}
	}
	return i, false
}

// question is the incident of a name that intelligence warns of being asked for.
// The process that asked for a promoted one is to be killed: each time, for
// nothing else stands between it and the peer.
func (x *indicators) question(ev event.Event, p *promotions) (event.Incident, bool) {
	if ev.Kind != event.KindDNS || ev.DNS == nil || ev.Container == nil {
		return event.Incident{}, false
	}
	now := time.Now()
	i, listed := x.findDomain(ev.DNS.Name, now)
	i, promoted := p.domain(ev.DNS.Name, i, listed, now)
	if !promoted && (!listed || !x.first(ev.Container.ID+" "+ev.DNS.Name, now)) {
		return event.Incident{}, false
	}
	who, name := contacting(ev), malicious(i)
	d := event.Decision{Control: event.ControlNetwork, Effect: event.EffectAlert, Outcome: event.Detected, Rule: "intelligence",
		Why: fmt.Sprintf("%s is listed by %s as %s. Intelligence warns; to stop it, promote the indicator.", i.Value, i.Source, name)}
	done := ""
	if promoted {
		d.Effect = event.EffectKill
		d.Why = fmt.Sprintf("%s is listed by %s as %s, and an administrator promoted it: who asks for it is killed.", i.Value, i.Source, name)
		done = "; an administrator wants it killed for that"
	}
	return event.Incident{Key: "indicator/" + ev.Key, Time: ev.Time, Host: ev.Host, Severity: event.SeverityHigh, Title: "Known malicious name asked for", Detection: "network-indicator",
		Sentence: fmt.Sprintf("%s asked for `%s`, which %s lists as %s%s.", who, ev.DNS.Name, i.Source, name, done),
		Decision: d, Container: ev.Container, Event: ev}, true
}
