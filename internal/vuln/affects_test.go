package vuln_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// ranges reads "introduced 0, fixed 1.2; introduced 2, last_affected 3": ranges
// by semicolon, events by comma.
func ranges(t *testing.T, text string) []vuln.Range {
	t.Helper()
	var out []vuln.Range
	for _, r := range strings.Split(text, ";") {
		var one vuln.Range
		for _, e := range strings.Split(r, ",") {
			kind, version, _ := strings.Cut(strings.TrimSpace(e), " ")
			switch kind {
			case "introduced":
				one.Events = append(one.Events, vuln.Point{Introduced: version})
			case "fixed":
				one.Events = append(one.Events, vuln.Point{Fixed: version})
			case "last_affected":
				one.Events = append(one.Events, vuln.Point{LastAffected: version})
			case "limit":
				one.Events = append(one.Events, vuln.Point{Limit: version})
			default:
				t.Fatalf("no event: %q", e)
			}
		}
		out = append(out, one)
	}
	return out
}

func TestAffects(t *testing.T) {
	for _, c := range []struct {
		name, ecosystem, ranges, versions string
		// want maps versions to "-" (not affected), "affected", or the fix.
		want map[string]string
	}{
		{"open end", "npm", "introduced 0", "", map[string]string{"0.0.0-0": "affected", "9.9.9": "affected"}},
		{"fixed", "npm", "introduced 0, fixed 1.2.0", "", map[string]string{"1.1.9": "1.2.0", "1.2.0-rc.1": "1.2.0", "1.2.0": "-", "2.0.0": "-"}},
		{"two branches in one range", "npm", "introduced 0, fixed 1.2.0, introduced 2.0.0, fixed 2.1.0", "", map[string]string{
			"1.0.0": "1.2.0", "1.5.0": "-", "2.0.0": "2.1.0", "2.1.0": "-"}},
		{"unsorted events", "npm", "fixed 2.1.0, introduced 2.0.0, fixed 1.2.0, introduced 0", "", map[string]string{
			"1.0.0": "1.2.0", "1.5.0": "-", "2.0.5": "2.1.0", "3.0.0": "-"}},
		{"two ranges", "npm", "introduced 0, fixed 1.2.0; introduced 2.0.0, fixed 2.1.0", "", map[string]string{
			"1.0.0": "1.2.0", "2.0.1": "2.1.0", "1.9.0": "-"}},
		{"last affected", "npm", "introduced 1.0.0, last_affected 1.5.0", "", map[string]string{
			"0.9.0": "-", "1.0.0": "affected", "1.5.0": "affected", "1.5.1": "-"}},
		{"fixed and introduced at one version", "npm", "introduced 0, fixed 1.0.0, introduced 1.0.0, fixed 1.1.0", "", map[string]string{
			"0.1.0": "1.0.0", "1.0.0": "1.1.0", "1.1.0": "-"}},
		{"limit", "npm", "introduced 1.0.0, limit 2.0.0", "", map[string]string{"1.9.9": "affected", "2.0.0": "-", "3.0.0": "-"}},
		{"limit without end", "npm", "introduced 1.0.0, limit *", "", map[string]string{"0.1.0": "-", "3.0.0": "affected"}},
		{"listed versions", "npm", "introduced 5.0.0, fixed 5.0.1", "1.0.0 1.0.2", map[string]string{
			"1.0.0": "5.0.1", "v1.0.2": "5.0.1", "1.0.1": "-", "5.0.0": "5.0.1"}},
		{"prerelease of the fix", "Go", "introduced 1.21.0-0, fixed 1.21.3", "", map[string]string{
			"go1.21rc2": "1.21.3", "go1.20.9": "-", "go1.21.3": "-", "go1.21.2": "1.21.3"}},
		{"pseudo-version", "Go", "introduced 0, fixed 0.0.0-20200101000000-aaaaaaaaaaaa", "", map[string]string{
			"v0.0.0-20191231235959-ffffffffffff": "0.0.0-20200101000000-aaaaaaaaaaaa", "v0.0.0-20200101000001-000000000000": "-"}},
		{"Debian security update", "Debian", "introduced 0, fixed 2.36-9+deb12u3", "", map[string]string{
			"2.36-9+deb12u2": "2.36-9+deb12u3", "2.36-9+deb12u3": "-", "2.36-9+deb12u10": "-", "2.36-9": "2.36-9+deb12u3", "1:1.0": "-"}},
		{"malformed range beside a good one", "npm", "introduced 0, fixed nonsense; introduced 0, fixed 1.2.0", "", map[string]string{"1.0.0": "1.2.0", "1.3.0": "-"}},
	} {
		order, _ := vuln.OrderOf(c.ecosystem)
		a := vuln.Affected{Ranges: ranges(t, c.ranges), Versions: strings.Fields(c.versions)}
		for version, want := range c.want {
			hit, fixed, _ := a.Affects(order, version)
			got := "-"
			if hit {
				got = fixed
				if fixed == "" {
					got = "affected"
				}
			}
			if got != want {
				t.Errorf("%s: %s is %q, want %q", c.name, version, got, want)
			}
		}
	}
}

func TestAffectsTellsOfVersionsWithoutPlace(t *testing.T) {
	a := vuln.Affected{Ranges: ranges(t, "introduced 0"), Versions: []string{"(devel)"}}
	for version, want := range map[string]bool{"(devel)": true, "master": false} {
		hit, _, err := a.Affects(vuln.CompareGo, version)
		if hit != want || err == nil {
			t.Errorf("%s: %v, %v", version, hit, err)
		}
	}
}
