package kernel_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv"
	"github.com/breakwater-sec/breakwater/internal/testenv/kernel"
)

// TestGuest boots one guest, with this package's own tests and one package
// that has none of that name. `make kernel-test` boots them all.
func TestGuest(t *testing.T) {
	lab, err := kernel.NewLab(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("BREAKWATER_TEST_REQUIRE") != "1" {
		if _, err := os.Stat(filepath.Join(lab.Dir, "vmlinux-6.12")); err != nil {
			testenv.Missing(t, "needs QEMU and a guest kernel, which `make kernel-test` fetches: %v", err)
		}
	}
	own := kernel.Suite{Package: "./internal/testenv/kernel", Run: "^TestKernel"}
	none := kernel.Suite{Package: "./internal/testenv/kernel", Run: "^TestThatIsNot$"}
	plan := kernel.Plan{
		Guests:  []kernel.Guest{{Series: "6.12", Cgroup: kernel.CgroupHybrid, LSM: true}},
		Suites:  []kernel.Suite{own, none},
		Timeout: 3 * time.Minute,
	}
	var outcomes []kernel.Outcome
	err = lab.Run(t.Context(), filepath.Join("..", "..", ".."), plan, func(o kernel.Outcome) { outcomes = append(outcomes, o) })
	if err != nil {
		t.Fatal(err)
	}
	if len(outcomes) != 1 || len(outcomes[0].Results) != 2 {
		t.Fatalf("%+v", outcomes)
	}
	if r := outcomes[0].Results[0]; r.Err() != nil || len(r.Passed) == 0 {
		t.Errorf("%v: %s", r.Err(), r.Output)
	}
	if err := outcomes[0].Err; err == nil || !strings.Contains(err.Error(), "no tests ran") {
		t.Errorf("a suite without tests: %v", err)
	}
}
