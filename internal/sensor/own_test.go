package sensor

import (
	"strings"
	"testing"
)

// TestOutermost: which container a process is in, as the kernel tells.
func TestOutermost(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, row := range []struct{ text, controller, want string }{
		{"0::/system.slice/breakwater-agent.service\n", "", ""},
		{"0::/\n", "", ""},
		{"", "", ""},
		{"0::/system.slice/docker-" + a + ".scope\n", "", "/system.slice/docker-" + a + ".scope"},
		{"0::/docker/" + a + "/init\n", "", "/docker/" + a},
		{"0::/docker/" + a + "/docker/" + b + "\n", "", "/docker/" + a},
		{"4:memory:/docker/" + a + "\n0::/\n", "", ""},
		{"7:cpu,cpuacct:/\n4:memory:/docker/" + a + "\n0::/\n", "memory", "/docker/" + a},
		{"0::/../" + a + "\n", "", "/" + a},
		{"0::/pretend-" + a + "\n", "", ""},
	} {
		if got, err := outermost(strings.NewReader(row.text), row.controller); got != row.want || err != nil {
			t.Errorf("%q of %q: %q, %v; want %q", row.controller, row.text, got, err, row.want)
		}
	}
}
