package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestUpKilledAgainAndAgain: whatever `up` is doing when it is killed, while
// attacks go on, each of them is told once in the end.
func TestUpKilledAgainAndAgain(t *testing.T) {
	// A story tells fifty acts of a kind one by one; each row is one of its own.
	const kills, row = 7, 40
	const attacks = kills * row
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	for i := range kills {
		attack := fmt.Sprintf(`for i in $(seq %d %d); do mkdir /tmp/a$i; cp /bin/busybox /tmp/a$i/touch; /tmp/a$i/touch /w/ran$i; echo $i >/w/count.new; mv /w/count.new /w/count; done`, i*row+1, (i+1)*row)
		cmd := h.engine.Command(t.Context(), "exec", "web", "sh", "-c", attack)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := i*row + (i+1)*row/(kills+1) // another place in each
		h.until(fmt.Sprintf("there were %d attacks", after), func() bool { return h.count() >= after })
		h.kill()
		killed := h.up
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("up number %d said:\n%s", i+1, killed.said())
			}
		})
		h.start("--gate=no")
		_ = cmd.Wait() // how its last program ended
	}
	for i := range attacks {
		if h.marked(fmt.Sprint("ran", i+1)) {
			t.Errorf("attack %d: a program that was not in the image ran", i+1)
		}
	}
	t.Cleanup(func() {
		for i, n := range h.told("web", attacks) {
			if n != 1 {
				t.Errorf("attack %d was told %d times", i+1, n)
			}
		}
	})
	h.incidentsOf("web", attacks, driftIncidents())
}

// told is how often each attack of a row was told.
func (h *wholeHost) told(container string, attacks int) []int {
	times := make([]int, attacks)
	query := driftIncidents()
	query.Set("container", container)
	for _, inc := range h.incidents(query) {
		var i int
		if n, _ := fmt.Sscanf(inc.Event.Exec.Path, "/tmp/a%d/touch", &i); n == 1 && i <= attacks {
			times[i-1]++
		}
	}
	return times
}

// count is how many attacks of a row there were.
func (h *wholeHost) count() int {
	raw, err := os.ReadFile(filepath.Join(h.witness, "count"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}
