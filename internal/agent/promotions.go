package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// maxPromoted bounds the indicators that are enforced: each stands in the kernel
// for every policy.
const maxPromoted = 2_000

// promotions are what an administrator wants enforced of what intelligence
// brought, as the signed bundle says. Safe for concurrent use.
type promotions struct {
	mu    sync.Mutex
	list  []api.Promotion
	peers []policy.PeerRule
}

// set replaces the list by what counts now, and says whether the peers that are
// refused are others; err, which of them are left out.
func (p *promotions) set(list []api.Promotion, known *indicators, now time.Time) (changed bool, err error) {
	active := slices.DeleteFunc(slices.Clone(list), func(x api.Promotion) bool { return !x.Ends.IsZero() && !now.Before(x.Ends) })
	peers := map[netip.Prefix]policy.PeerRule{}
	add := func(prefix netip.Prefix, source string) {
		peers[prefix] = policy.PeerRule{Prefix: prefix, Source: promotedSource + source}
	}
	for _, x := range active {
		if x.Kind != api.PromoteIndicator {
			continue
		}
		if x.Value == "" {
			known.each(now, func(prefix netip.Prefix, i intel.Indicator) {
				if x.Source == "" || x.Source == i.Source {
					add(prefix, i.Source)
				}
			})
		} else if prefix, err := prefixOf(x.Value); err == nil {
			add(prefix, cmp.Or(x.Source, "an administrator"))
		}
	}
	sorted := make([]policy.PeerRule, 0, len(peers))
	for _, r := range peers {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b policy.PeerRule) int { return a.Prefix.Compare(b.Prefix) })
	if n := len(sorted); n > maxPromoted {
		sorted = sorted[:maxPromoted]
		err = fmt.Errorf("%d indicators are promoted, %d can be enforced: the others alert; promote fewer", n, maxPromoted)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = !slices.EqualFunc(p.peers, sorted, func(a, b policy.PeerRule) bool { return a.Prefix == b.Prefix && a.Source == b.Source })
	p.list, p.peers = active, sorted
	return changed, err
}

// promotedSource begins the place of a rule that a promotion made.
const promotedSource = "promoted indicator of "

// run is the section under which detections of intelligence stand: those that
// are promoted respond as they ask for, all others alert.
func (p *promotions) run(now time.Time) policy.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	run := policy.Run{Respond: true, Detections: map[string]policy.DetectionSetting{policy.AllDetections: {Effect: event.EffectAlert}}}
	for _, x := range p.list {
		if x.Kind == api.PromoteDetection && (x.Ends.IsZero() || now.Before(x.Ends)) {
			run.Detections[cmp.Or(x.Value, policy.AllDetections)] = policy.DetectionSetting{}
		}
	}
	return run
}

// into adds the refused peers to a container's run section. What policies only
// record of the network goes on being recorded, beside.
func (p *promotions) into(run policy.Run) policy.Run {
	p.mu.Lock()
	peers := p.peers
	p.mu.Unlock()
	if len(peers) == 0 {
		return run
	}
	n := run.Network
	if n.Effect != "" && (n.Audit || run.Audit || n.Effect == event.EffectAlert) {
		audited := policy.Run{Audit: true, Policies: run.Policies, Generation: run.Generation}
		if run.Audited != nil {
			audited = *run.Audited
		}
		if audited.Network.Effect == "" {
			audited.Network = n
		}
		run.Audited, n = &audited, policy.Network{}
	}
	if run.Audit { // from here on something is enforced: each other control says it of itself
		run.Audit = false
		run.Drift.Audit, run.Fileless.Audit, run.Exec.Audit = true, true, true
	}
	if n.Effect.Rank() < event.EffectBlock.Rank() {
		n.Effect = event.EffectBlock
	}
	n.Deny = append(slices.Clone(n.Deny), peers...)
	run.Network = n
	return run
}

// promote takes up what is promoted, and puts it into the kernel when that
// changed.
func (a *Agent) promote(ctx context.Context) {
	changed, err := a.promotions.set(a.policies.promotions(), a.indicators, time.Now())
	a.problem("promotions", err)
	if changed && ctx.Err() == nil {
		a.indicators.tellAgain()
		a.problem("promoted indicators", a.applyRuns())
	}
}
