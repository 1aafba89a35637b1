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
	const attacks, kills = 300, 6
	h := newWholeHost(t)
	h.start("--gate=no")
	h.box("web")
	row := fmt.Sprintf(`for i in $(seq %d); do mkdir /tmp/a$i; cp /bin/busybox /tmp/a$i/touch; /tmp/a$i/touch /w/ran; echo $i >/w/count.new; mv /w/count.new /w/count; done`, attacks)
	cmd := h.engine.Command(t.Context(), "exec", "web", "sh", "-c", row)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range kills {
		after := (i + 1) * attacks / (kills + 1)
		h.until(fmt.Sprintf("there were %d attacks", after), func() bool { return h.count() >= after })
		h.kill()
		h.start("--gate=no")
	}
	_ = cmd.Wait() // how its last program ended
	if h.marked("ran") {
		t.Error("a program that was not in the image ran")
	}
	times := map[string]int{}
	for _, inc := range h.incidentsOf("web", attacks, driftIncidents()) {
		times[inc.Event.Exec.Path]++
	}
	for i := range attacks {
		if path := fmt.Sprintf("/tmp/a%d/touch", i+1); times[path] != 1 {
			t.Errorf("%s was told %d times", path, times[path])
		}
	}
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
