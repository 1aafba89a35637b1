package policy

import (
	"sort"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Run merges the run sections of every policy that covers the subject. now
// decides which exceptions and waivers still count. The result shares nothing
// with the set and may be kept.
func (s *Set) Run(now time.Time, subject Subject) Run {
	enforced, audited := merger{now: now, subject: subject}, merger{now: now, subject: subject, audit: true}
	result := Run{Generation: s.generation}
	var waivers []Waiver
	for _, p := range s.policies {
		if p.run == nil && len(p.waivers) == 0 || !p.covers(subject) {
			continue
		}
		result.Policies = append(result.Policies, p.Name)
		waivers = append(waivers, p.activeWaivers(now)...)
		if p.run == nil {
			continue
		}
		if p.Enforces(subject.Stage) {
			enforced.add(p)
		} else {
			audited.add(p)
		}
	}
	combined := combine(enforced.run, audited.run)
	combined.Policies, combined.Generation, combined.Waivers = result.Policies, result.Generation, waivers
	combined.Audit = !enforced.any && audited.any
	combined.Respond = enforced.detections
	return combined
}

func (p *Policy) activeWaivers(now time.Time) []Waiver {
	var list []Waiver
	for _, w := range p.waivers {
		if now.Before(w.expires) {
			w.Policy = p.Name
			list = append(list, w.Waiver)
		}
	}
	return list
}

// combine puts what policies in audit mode want beside what enforcing ones
// want: into the same place where it is free, else into Audited.
func combine(enforced, audited Run) Run {
	result, rest := enforced, Run{Audit: true}
	left := false
	if audited.Drift.On {
		left = place(&result.Drift, &rest.Drift, audited.Drift, enforced.Drift.On) || left
	}
	if audited.Fileless.On {
		left = place(&result.Fileless, &rest.Fileless, audited.Fileless, enforced.Fileless.On) || left
	}
	if audited.Exec.Effect != "" {
		left = place(&result.Exec, &rest.Exec, audited.Exec, enforced.Exec.Effect != "") || left
	}
	if audited.Files.Effect != "" {
		left = place(&result.Files, &rest.Files, audited.Files, enforced.Files.Effect != "") || left
	}
	if audited.Network.Effect != "" {
		left = place(&result.Network, &rest.Network, audited.Network, enforced.Network.Effect != "") || left
	}
	if len(audited.Resources.Limits) > 0 {
		left = place(&result.Resources, &rest.Resources, audited.Resources, len(enforced.Resources.Limits) > 0) || left
	}
	if enforced.Detections == nil {
		result.Detections, result.DetectionEffects = audited.Detections, audited.DetectionEffects
	}
	if left {
		result.Audited = &rest
	}
	return result
}

// place puts v into main, or into rest when main is taken; true in that case.
func place[T any](main, rest *T, v T, taken bool) bool {
	if taken {
		*rest = v
		return true
	}
	*main = v
	return false
}

// merger folds run sections of policies of one mode together.
type merger struct {
	now        time.Time
	subject    Subject
	audit      bool
	run        Run
	any        bool // a run section was added
	detections bool // and one of them has a detections section
}

func (m *merger) add(p *Policy) {
	m.any = true
	if p.run.drift.On && !m.lifted(p, "run.exec.drift") {
		m.run.Drift = m.stricter(m.run.Drift, p.run.drift, p.Name)
	}
	if p.run.fileless.On && !m.lifted(p, "run.exec.fileless") {
		m.run.Fileless = m.stricter(m.run.Fileless, p.run.fileless, p.Name)
	}
	if p.run.exec.Effect != "" && !m.lifted(p, "run.exec") {
		m.exec(p)
	}
	if p.run.files.Effect != "" && !m.lifted(p, "run.files") {
		m.files(p)
	}
	if p.run.network.Effect != "" && !m.lifted(p, "run.network") {
		m.network(p.Name, p.run.network)
	}
	if p.run.metadata.Effect != "" && !m.lifted(p, "run.network.metadataService") {
		m.network(p.Name, p.run.metadata)
	}
	if len(p.run.resources.Limits) > 0 && !m.lifted(p, "run.resources") {
		m.resources(p)
	}
	if p.run.detections != nil {
		m.detections = true
		m.settings(p.Name, p.run.detections)
	}
}

func (m *merger) lifted(p *Policy, rule string) bool { return p.lifts(m.now, m.subject, rule) }

func (m *merger) stricter(have, add Switch, policy string) Switch {
	add.Policy, add.Audit = policy, m.audit
	if have.On && have.Effect.Rank() >= add.Effect.Rank() {
		return have
	}
	return add
}

func strictest(a, b event.Effect) event.Effect {
	if b.Rank() > a.Rank() {
		return b
	}
	return a
}

func (m *merger) exec(p *Policy) {
	add, have := p.run.exec, &m.run.Exec
	have.Audit = m.audit
	have.Effect = strictest(have.Effect, add.Effect)
	have.Deny = append(have.Deny, ownPaths(add.Deny, p.Name)...)
	if !add.Restrict {
		return
	}
	allow := ownPaths(add.Allow, p.Name)
	if have.Restrict {
		allow = intersectPaths(have.Allow, allow)
	} else {
		have.Source = add.Source
	}
	have.Restrict, have.Allow, have.By = true, allow, append(have.By, p.Name)
}

func (m *merger) files(p *Policy) {
	add, have := p.run.files, &m.run.Files
	have.Audit = m.audit
	have.Effect = strictest(have.Effect, add.Effect)
	have.Deny = append(have.Deny, ownPaths(add.Deny, p.Name)...)
	have.ReadOnly = append(have.ReadOnly, ownPaths(add.ReadOnly, p.Name)...)
}

func ownPaths(rules []PathRule, policy string) []PathRule {
	own := make([]PathRule, len(rules))
	for i, r := range rules {
		r.Policy = policy
		own[i] = r
	}
	return own
}

func (m *merger) network(policy string, add Network) {
	have := &m.run.Network
	have.Audit = m.audit
	have.Effect = strictest(have.Effect, add.Effect)
	have.Deny = append(have.Deny, ownPeers(add.Deny, policy)...)
	if !add.Restrict {
		return
	}
	egress := ownPeers(add.Egress, policy)
	if have.Restrict {
		egress = intersectPeers(have.Egress, egress)
	} else {
		have.Source = add.Source
	}
	have.Restrict, have.Egress, have.By = true, egress, append(have.By, policy)
}

func ownPeers(rules []PeerRule, policy string) []PeerRule {
	own := make([]PeerRule, len(rules))
	for i, r := range rules {
		r.Policy = policy
		own[i] = r
	}
	return own
}

// settings merges what a policy says about detections. Enabling is the
// stricter side: what one policy disables, another one can enable again by
// name, not by "*".
func (m *merger) settings(policy string, s *detectionSection) {
	if m.run.Detections == nil {
		m.run.Detections = map[string]DetectionSetting{}
		m.run.DetectionEffects = map[event.Severity]event.Effect{}
	}
	all := m.run.Detections
	for _, ref := range s.enable {
		if ref.id != AllDetections {
			setting := all[ref.id]
			all[ref.id] = DetectionSetting{Effect: strictest(setting.Effect, s.effect), Policy: policy}
		}
	}
	for _, ref := range s.disable {
		if _, named := all[ref.id]; !named {
			all[ref.id] = DetectionSetting{Disabled: true, Policy: policy}
		}
	}
	m.wildcard(policy, s)
	for severity, effect := range s.severity {
		m.run.DetectionEffects[severity] = strictest(m.run.DetectionEffects[severity], effect)
	}
}

// wildcard merges the setting of the detections that nobody names: they are
// off only while every policy leaves them out.
func (m *merger) wildcard(policy string, s *detectionSection) {
	all := m.run.Detections
	have, some := all[AllDetections]
	add := DetectionSetting{Disabled: !s.all, Effect: s.effect, Policy: policy}
	if some {
		add.Disabled = add.Disabled && have.Disabled
		if have.Effect.Rank() >= add.Effect.Rank() {
			add.Effect, add.Policy = have.Effect, have.Policy
		}
	}
	all[AllDetections] = add
}

func sortPaths(rules []PathRule) {
	sort.SliceStable(rules, func(i, j int) bool { return rules[i].Pattern < rules[j].Pattern })
}
