package gate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// What the gate remembers of the engine's images follows every way in which a
// name gets another meaning, without a start that would ask anew.
func TestRememberedImages(t *testing.T) {
	l := newLab(t, strictPolicy)
	good := l.digest(l.busybox)
	bad := l.engine.BuildImage(t, "bw-bad:1", "FROM "+l.busybox+"\nLABEL of=bad\n", nil)
	l.setReport(good)
	l.setReport(bad, event.SeverityCritical)
	create := slices.Concat([]string{"create"}, limits, []string{"bw-moved:1", "true"})
	becomes := func(allowed bool) {
		t.Helper()
		l.until("the name is judged by its content", func() bool {
			id, _, code := l.engine.Run(create...)
			if code == 0 {
				l.engine.MustRun(t, "rm", strings.TrimSpace(id)) // older clients take it as it is
			}
			return (code == 0) == allowed
		})
	}
	archive := t.TempDir() + "/bad.tar"
	l.engine.MustRun(t, "tag", bad, "bw-moved:1")
	l.engine.MustRun(t, "save", "-o", archive, "bw-moved:1")
	for _, move := range [][]string{
		{"tag", bad, "bw-moved:1"},
		{"load", "-i", archive},
	} {
		l.engine.MustRun(t, "tag", good, "bw-moved:1")
		becomes(true)
		l.engine.MustRun(t, move...)
		becomes(false)
	}
	t.Run("after the engine's restart", func(t *testing.T) {
		l.engine.MustRun(t, "tag", good, "bw-moved:1")
		becomes(true)
		if err := l.engine.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := l.engine.Start(); err != nil {
			t.Fatal(err)
		}
		becomes(true)
		l.engine.MustRun(t, "tag", bad, "bw-moved:1")
		becomes(false)
	})
}
