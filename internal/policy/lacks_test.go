package policy_test

import (
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// TestLacks: every kind of content that a policy speaks of is one that a scan
// must have looked for.
func TestLacks(t *testing.T) {
	for image, want := range map[string][]string{
		"{maxSeverity: low}":                nil,
		"{malware: deny}":                   {"malware"},
		"{secrets: deny, unscanned: allow}": {"secrets"},
		"{licenses: {deny: [SSPL-1.0]}}":    {"licenses"},
		"{misconfigurations: medium}":       {"misconfigurations"},
		"{signedBy: [ci]}":                  {"signatures"},
		"{malware: deny, secrets: {maxSeverity: low}, signedBy: [ci]}": {"malware", "secrets", "signatures"},
	} {
		all, err := policy.Parse("p.yaml", []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\nimage: "+image+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		set, err := policy.NewSet(1, all)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Lacks(nil); !slices.Equal(got, want) {
			t.Errorf("%s: a scan that looked for nothing lacks %q, want %q", image, got, want)
		}
		if got := set.Lacks(want); got != nil {
			t.Errorf("%s: a scan that looked for everything lacks %q", image, got)
		}
	}
}
