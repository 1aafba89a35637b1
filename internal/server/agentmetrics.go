package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// agentMetrics tells Prometheus what agents last said of themselves: one read of
// the store for each scrape. It is safe for concurrent use.
type agentMetrics struct {
	agents func(context.Context) ([]store.Agent, error)
	now    func() time.Time

	heard, containers, problems, events, kept *prometheus.Desc
}

// scrapeTime bounds the read: a database that hangs does not hold scrapes up.
const scrapeTime = 5 * time.Second

func newAgentMetrics(agents func(context.Context) ([]store.Agent, error), now func() time.Time) *agentMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("breakwater_agent_"+name, help, append([]string{"host", "agent"}, labels...), nil)
	}
	return &agentMetrics{
		agents: agents, now: now,
		heard:      desc("heard_seconds", "Seconds since the agent was heard of."),
		containers: desc("containers", "Containers that run on its host, by how far they are guarded: enforce, audit, not covered.", "mode"),
		problems:   desc("problems", "What is wrong on its host now."),
		events: desc("events_total", "Events of the kernel since enforcement was loaded, by what became of them: "+
			"emitted, dropped (of the emitted, no room on their way to the agent), repeated (not emitted: told before).", "kind", "result"),
		kept: desc("kept_events_total", "Events given to the agent's store of events since it started, and those of them that were dropped.", "kind", "result"),
	}
}

// Describe is prometheus.Collector's.
func (m *agentMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.heard, m.containers, m.problems, m.events, m.kept} {
		to <- d
	}
}

// Collect is prometheus.Collector's. Agents that were revoked, or never heard of,
// are left out.
func (m *agentMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	agents, err := m.agents(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(m.heard, err)
		return
	}
	for _, a := range agents {
		if a.Status == nil || !a.Revoked.IsZero() {
			continue
		}
		m.collect(to, a)
	}
}

func (m *agentMetrics) collect(to chan<- prometheus.Metric, a store.Agent) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, value, append([]string{a.Host, a.ID}, labels...)...)
	}
	tell(m.heard, prometheus.GaugeValue, m.now().Sub(a.Seen).Seconds())
	tell(m.problems, prometheus.GaugeValue, float64(len(a.Status.Problems)))
	modes := map[string]int{"enforce": 0, "audit": 0, "not covered": 0}
	for _, c := range a.Status.Containers {
		if _, known := modes[c.Mode]; known { // an agent's words make no labels
			modes[c.Mode]++
		}
	}
	for mode, n := range modes {
		tell(m.containers, prometheus.GaugeValue, float64(n), mode)
	}
	accounts := func(d *prometheus.Desc, list []event.Account, repeated bool) {
		seen := map[event.Kind]bool{}
		for _, x := range list {
			if !x.Kind.Known() || seen[x.Kind] {
				continue
			}
			seen[x.Kind] = true
			tell(d, prometheus.CounterValue, float64(x.Emitted), string(x.Kind), "emitted")
			tell(d, prometheus.CounterValue, float64(x.Dropped), string(x.Kind), "dropped")
			if repeated {
				tell(d, prometheus.CounterValue, float64(x.Repeated), string(x.Kind), "repeated")
			}
		}
	}
	accounts(m.events, a.Status.Accounts, true)
	accounts(m.kept, a.Status.Kept, false)
}
