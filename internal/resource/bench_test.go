package resource_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/resource"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// BenchmarkRead is what one measurement of one container at rest costs; an agent
// makes one every five seconds of each.
func BenchmarkRead(b *testing.B) {
	engine := testenv.NewDocker(b)
	groups, err := resource.OpenCgroups()
	if err != nil {
		b.Fatal(err)
	}
	id := strings.TrimSpace(engine.MustRun(b, "run", "-d", "--network=none", engine.BusyboxImage(b), "sleep", "600"))
	defer engine.Remove(b, id)
	groups.Find([]string{id})
	for b.Loop() {
		if _, err := groups.Read(id, resource.Want{MemoryAbove: 1 << 62}); err != nil {
			b.Fatal(err)
		}
	}
}
