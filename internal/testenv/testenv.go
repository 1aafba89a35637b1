// Package testenv gives tests the real components they run against: root, a
// container engine, kernels, receivers; all on loopback. Only tests import it.
//
// With BREAKWATER_TEST_REQUIRE=1, as `make test` sets it, a component that is
// missing fails the test; otherwise the test is skipped and says what it left
// out, so that plain `go test ./...` passes on any machine.
package testenv

import (
	"os"
	"testing"
)

// Missing ends the test: as a failure when everything is required, else as a
// skip with the reason.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("BREAKWATER_TEST_REQUIRE") == "1" {
		t.Fatalf("required by BREAKWATER_TEST_REQUIRE=1: "+format, args...)
	}
	t.Skipf("left out: "+format, args...)
}

// NeedRoot leaves the test out unless it runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root (uid is %d)", os.Geteuid())
	}
}
