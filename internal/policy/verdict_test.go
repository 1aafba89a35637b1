package policy_test

import (
	"reflect"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

func TestJoin(t *testing.T) {
	image := event.Verdict{Allowed: true, Generation: 3, Policies: []string{"b", "c"}, Incomplete: []string{"x"},
		Violations: []event.Violation{{Rule: "audited", Audit: true}}}
	start := event.Verdict{Generation: 4, Policies: []string{"a", "b"}, Incomplete: []string{"y"},
		Violations: []event.Violation{{Rule: "enforced"}}}
	want := event.Verdict{Generation: 4, Policies: []string{"a", "b", "c"}, Incomplete: []string{"x", "y"},
		Violations: []event.Violation{{Rule: "enforced"}, {Rule: "audited", Audit: true}}}
	if got := policy.Join(image, start); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := policy.Join(); !got.Allowed {
		t.Error("nothing asked is not allowed")
	}
}
