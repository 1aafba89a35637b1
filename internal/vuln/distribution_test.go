package vuln_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// TestDistributionNames holds the table of docs/intelligence.md: what an image
// calls itself and what publishers call it come out as one name, which has a
// version order.
func TestDistributionNames(t *testing.T) {
	for _, c := range []struct{ id, version, codename, published, want string }{
		{"debian", "12", "bookworm", "Debian:12", "Debian:12"},
		{"debian", "", "sid", "Debian:sid", "Debian:sid"},
		{"ubuntu", "24.04", "noble", "Ubuntu:24.04:LTS", "Ubuntu:24.04"},
		{"ubuntu", "24.10", "oracular", "Ubuntu:24.10", "Ubuntu:24.10"},
		{"alpine", "3.20.3", "", "Alpine:v3.20", "Alpine:v3.20"},
		{"alpine", "3.23_alpha20260101", "", "Alpine:edge", "Alpine:edge"},
		{"rhel", "9.4", "", "Red Hat:enterprise_linux:9::appstream", "Red Hat:9"},
		{"centos", "9", "", "Red Hat:enterprise_linux:9::baseos", "Red Hat:9"},
		{"rocky", "9.4", "", "Rocky Linux:9", "Rocky Linux:9"},
		{"almalinux", "9.4", "", "AlmaLinux:9", "AlmaLinux:9"},
		{"ol", "9.4", "", "Oracle Linux:9", "Oracle Linux:9"},
		{"amzn", "2023", "", "Amazon Linux:2023", "Amazon Linux:2023"},
		{"amzn", "2018.03", "", "Amazon Linux:1", "Amazon Linux:1"},
		{"photon", "5.0", "", "Photon OS:5.0", "Photon OS:5"},
		{"azurelinux", "3.0", "", "Azure Linux:3", "Azure Linux:3"},
		{"mariner", "2.0", "", "Azure Linux:2", "Azure Linux:2"},
		{"fedora", "41", "", "Fedora:41", "Fedora:41"},
		{"sles", "15.5", "", "SUSE:Linux Enterprise Module for Basesystem 15 SP5", "SUSE:15.5"},
		{"sles", "15.4", "", "SUSE:Linux Enterprise Server 15 SP4-LTSS", "SUSE:15.4"},
		{"sles", "12", "", "SUSE:Linux Enterprise Server 12", "SUSE:12"},
		{"sle-micro", "5.5", "", "SUSE:Linux Enterprise Micro 5.5", "SUSE:Micro 5.5"},
		{"opensuse-leap", "15.6", "", "openSUSE:Leap 15.6", "openSUSE:Leap 15.6"},
		{"opensuse-tumbleweed", "20260101", "", "openSUSE:Tumbleweed", "openSUSE:Tumbleweed"},
		{"wolfi", "20230201", "", "Wolfi", "Wolfi"},
		{"chainguard", "20230214", "", "Chainguard", "Chainguard"},
	} {
		if got := vuln.Distribution(c.id, c.version, c.codename); got != c.want {
			t.Errorf("%s %s is %q, want %q", c.id, c.version, got, c.want)
		}
		if got := vuln.Canonical(c.published); got != c.want {
			t.Errorf("%s is %q, want %q", c.published, got, c.want)
		}
		if _, ok := vuln.OrderOf(c.want); !ok {
			t.Errorf("%s has no version order", c.want)
		}
	}
	for _, other := range []string{"npm", "Go", "Maven:https://repo.example/maven", "Red Hat:rhel_eus:9.2::baseos", "SUSE:Manager Server 4.3", "Ubuntu:Pro:18.04"} {
		if got := vuln.Canonical(other); got != other {
			t.Errorf("%s became %q", other, got)
		}
	}
	if got := vuln.Distribution("plan9", "4", ""); got != "" {
		t.Errorf("an unknown distribution is %q", got)
	}
}
