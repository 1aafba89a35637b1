package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// AllDetections is the key of Run.Detections for those not named.
const AllDetections = "*"

// detectionSection is what a policy says about detections.
type detectionSection struct {
	all      bool // enable holds "*", or is absent
	enable   []detectionRef
	disable  []detectionRef
	effect   event.Effect // of every detection; "" = by severity or its default
	severity map[event.Severity]event.Effect
}

// detectionRef is the place where a policy names a detection.
type detectionRef struct{ id, source string }

func parseDetections(v document.Value) *detectionSection {
	s := &detectionSection{all: true}
	v.Map(document.Fields{
		"enable": func(v document.Value) {
			s.enable = detectionIDs(v)
			s.all = slices.ContainsFunc(s.enable, func(r detectionRef) bool { return r.id == AllDetections })
		},
		"disable": func(v document.Value) { s.disable = detectionIDs(v) },
		"effect":  func(v document.Value) { s.parseEffects(v) },
	})
	for _, ref := range s.disable {
		if slices.ContainsFunc(s.enable, func(r detectionRef) bool { return r.id == ref.id && r.id != AllDetections }) {
			v.Fail("%s is enabled and disabled: remove it from one list", ref.id)
		}
	}
	return s
}

func (s *detectionSection) parseEffects(v document.Value) {
	effect := func(v document.Value) event.Effect {
		return parseEffect(v, event.EffectAlert, event.EffectKill, event.EffectPause, event.EffectStop)
	}
	if v.Kind != document.Map {
		s.effect = effect(v)
		return
	}
	s.severity = map[event.Severity]event.Effect{}
	at := func(severity event.Severity) func(document.Value) {
		return func(v document.Value) { s.severity[severity] = effect(v) }
	}
	v.Map(document.Fields{
		"low": at(event.SeverityLow), "medium": at(event.SeverityMedium),
		"high": at(event.SeverityHigh), "critical": at(event.SeverityCritical),
	})
}

func detectionIDs(v document.Value) []detectionRef {
	var refs []detectionRef
	v.List(maxRules, func(v document.Value) { refs = append(refs, detectionRef{detectionID(v), v.Source()}) })
	return refs
}

var detectionShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`) })

func detectionID(v document.Value) string {
	id := v.String()
	if id != "" && id != AllDetections && !detectionShape().MatchString(id) {
		v.Fail("%q is not the id of a detection: lower-case letters, digits, hyphens and underscores", id)
	}
	return id
}

// CheckDetections reports every detection that the policy names and that does
// not exist, or that it treats as it cannot be treated. known maps the ids of
// the loaded detections to whether they are always on. Parse cannot know them,
// so whoever loads both calls this.
func (p *Policy) CheckDetections(known map[string]bool) error {
	var errs []error
	check := func(ref detectionRef, ok func(alwaysOn bool) bool, otherwise string) {
		alwaysOn, exists := known[ref.id]
		switch {
		case ref.id == AllDetections && otherwise != waiverOnly:
		case !exists:
			errs = append(errs, fmt.Errorf("%s: policy %s names the detection %q, which does not exist", ref.source, p.Name, ref.id))
		case !ok(alwaysOn):
			errs = append(errs, fmt.Errorf("%s: policy %s: detection %q %s", ref.source, p.Name, ref.id, otherwise))
		}
	}
	if p.run != nil && p.run.detections != nil {
		for _, ref := range p.run.detections.enable {
			check(ref, func(bool) bool { return true }, "")
		}
		for _, ref := range p.run.detections.disable {
			check(ref, func(alwaysOn bool) bool { return !alwaysOn }, "is always on and can only be lifted by a waiver with a reason and an end")
		}
	}
	for _, w := range p.waivers {
		check(detectionRef{w.Detection, w.source}, func(alwaysOn bool) bool { return alwaysOn }, waiverOnly)
	}
	return errors.Join(errs...)
}

const waiverOnly = "is not always on: disable it in run.detections instead of waiving it"

// Detection says what the policies want of one detection: whether it counts
// here, and its effect instead of the given default. The policy is the one
// whose setting decided; empty when none did. Always-on detections are lifted
// by waivers only, and always respond.
func (r Run) Detection(id string, severity event.Severity, alwaysOn bool, byDefault event.Effect) (setting DetectionSetting, waived *Waiver) {
	for i := range r.Waivers {
		if alwaysOn && r.Waivers[i].Detection == id {
			return DetectionSetting{Disabled: true, Policy: r.Waivers[i].Policy}, &r.Waivers[i]
		}
	}
	setting, named := r.Detections[id]
	if !named {
		setting = r.Detections[AllDetections]
	}
	if alwaysOn {
		setting.Disabled = false
	}
	if setting.Effect == "" {
		setting.Effect = byDefault
		if effect := r.DetectionEffects[severity]; effect != "" {
			setting.Effect = effect
		}
	}
	if alwaysOn && setting.Effect.Rank() <= byDefault.Rank() {
		setting.Effect, setting.Policy = byDefault, "" // no policy was needed for that
	}
	return setting, nil
}
