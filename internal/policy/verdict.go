package policy

import (
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Join is the verdict of several questions about one thing: allowed when each
// allows it, with the reasons of all in the order of the questions, enforced
// ones before audited ones.
func Join(verdicts ...event.Verdict) event.Verdict {
	out := event.Verdict{Allowed: true}
	var audited []event.Violation
	for _, v := range verdicts {
		out.Allowed = out.Allowed && v.Allowed
		out.Generation = max(out.Generation, v.Generation)
		out.Policies = append(out.Policies, v.Policies...)
		out.Incomplete = append(out.Incomplete, v.Incomplete...)
		for _, x := range v.Violations {
			if x.Audit {
				audited = append(audited, x)
			} else {
				out.Violations = append(out.Violations, x)
			}
		}
	}
	out.Violations = append(out.Violations, audited...)
	slices.Sort(out.Policies)
	out.Policies = slices.Compact(out.Policies)
	return out
}
