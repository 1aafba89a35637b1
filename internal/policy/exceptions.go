package policy

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// exception lifts rules of the policy that it stands in.
type exception struct {
	match   *condition.Condition
	reason  string
	expires time.Time // the first moment at which it no longer counts
}

func (ps parser) exceptions(v document.Value) []exception {
	var list []exception
	v.List(maxExceptions, func(v document.Value) {
		var x exception
		ok := v.Map(document.Fields{
			"match":   func(v document.Value) { x.match = ps.envs.exception.Compile(v) },
			"reason":  func(v document.Value) { x.reason = v.String() },
			"expires": func(v document.Value) { x.expires = parseExpiry(v) },
		})
		if ok {
			v.Require("match", "reason", "expires")
		}
		list = append(list, x)
	})
	return list
}

// parseExpiry reads a date; the day itself still counts, in UTC.
func parseExpiry(v document.Value) time.Time {
	day, err := time.Parse(time.DateOnly, v.Text)
	if err != nil {
		v.Fail("%q is not a date: write it as 2027-03-01", v.Text)
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// waiver switches one always-on detection off.
type waiver struct {
	Waiver
	source  string
	expires time.Time
}

func parseWaivers(v document.Value) []waiver {
	var list []waiver
	v.List(maxExceptions, func(v document.Value) {
		w := waiver{source: v.Source()}
		ok := v.Map(document.Fields{
			"detection": func(v document.Value) { w.Detection = detectionID(v) },
			"reason":    func(v document.Value) { w.Reason = v.String() },
			"expires": func(v document.Value) {
				w.expires = parseExpiry(v)
				w.Expires = v.Text
			},
		})
		if ok {
			v.Require("detection", "reason", "expires")
		}
		list = append(list, w)
	})
	return list
}

// lifts says whether an exception of the policy lifts that rule for that
// subject. For rules about one finding, finding is set; a match that reads
// finding says nothing about other rules. A match that reads the image's name
// must hold for every name that the image has, and one that cannot be
// evaluated lifts nothing.
func (p *Policy) lifts(now time.Time, s Subject, ruleID string, finding *event.Finding) bool {
	if len(p.exceptions) == 0 {
		return false
	}
	vars := s.variables()
	vars["rule"] = ruleID
	vars["finding"] = &event.Finding{}
	if finding != nil {
		vars["finding"] = finding
	}
	for _, x := range p.exceptions {
		if !now.Before(x.expires) || x.match.Reads("finding") && finding == nil {
			continue
		}
		if everyName(x.match, s, vars) {
			return true
		}
	}
	return false
}

func everyName(match *condition.Condition, s Subject, vars map[string]any) bool {
	for _, view := range s.names(ImageConfig{}) {
		vars["image"] = view
		if ok, err := match.Eval(vars); err != nil || !ok {
			return false
		}
	}
	return true
}
