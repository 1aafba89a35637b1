package enforce_test

import (
	"bufio"
	"os"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// multiply runs a script of a shell in a box in which so many processes say a line to
// descriptor 4, and live until descriptor 3 ends. It returns when all did and ended.
func (b *box) multiply(script string, processes int) {
	b.g.t.Helper()
	hold, release := pipe(b.g.t)
	said, say := pipe(b.g.t)
	c := b.command("/bin/sh", "-c", script)
	c.ExtraFiles = []*os.File{hold, say}
	if err := start(c); err != nil {
		b.g.t.Fatal(err)
	}
	hold.Close()
	say.Close()
	lines := bufio.NewReader(said)
	for n := range processes {
		if _, err := lines.ReadString('\n'); err != nil {
			b.g.t.Errorf("%d of %d processes: %v", n, processes, err)
			break
		}
	}
	release.Close()
	if err := c.Wait(); err != nil {
		b.g.t.Errorf("the shell: %v", err)
	}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// bomb is a fork bomb of 511 processes, 8 forks deep.
const bomb = `b() { echo >&4; if [ $1 -gt 0 ]; then b $(($1-1)) & b $(($1-1)) & fi; read x <&3; wait; }; b 8`

// deep lets a shell do something so many forks down.
const deep = `d() { if [ $1 -gt 0 ]; then d $(($1-1)) "$2" & wait; else i=0; eval "$2"; echo >&4; fi; }; `

// TestKernelForkBomb: processes that fork and fork again are told of once; what a
// server, or a shell of many jobs, does is not.
func TestKernelForkBomb(t *testing.T) {
	g := newGuard(t)
	workers := g.box()
	// A daemon in two steps, and three hundred workers of it.
	workers.multiply(`( ( i=0; while [ $i -lt 300 ]; do (echo >&4; read x <&3) & i=$((i+1)); done; wait ) ) & wait`, 300)
	// Short-lived ones, six forks down, and programs: there are never many at once.
	workers.multiply(deep+`d 6 'while [ $i -lt 400 ]; do (:); i=$((i+1)); done'`, 1)
	workers.multiply(deep+`d 6 'while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done'`, 1)
	waived := g.box(assign(t, g, policy.Run{Waivers: []policy.Waiver{{Detection: sensor.DetectionForkBomb}}}))
	waived.multiply(bomb, 511)
	b := g.box()
	b.multiply(bomb, 511)
	e := g.wait("the bomb", decided(b.id, event.ControlDetection, event.Detected))
	if e.Kind != event.KindFork || e.Fork == nil || !e.Fork.Bomb || e.Decision.Rule != sensor.DetectionForkBomb || e.Decision.Effect != event.EffectAlert {
		t.Errorf("told as %+v %+v", e.Decision, e.Fork)
	}
	if e.Process == nil || e.Process.PID <= 1 || e.Process.Path == "" {
		t.Errorf("by %+v", e.Process)
	}
	told := 0
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Fork == nil {
			continue
		}
		if told++; e.Container.ID != b.id {
			t.Errorf("%s: told of as a bomb", map[string]string{workers.id: "workers", waived.id: "waived"}[e.Container.ID])
		}
	}
	if told > 10 {
		t.Errorf("one bomb is told of %d times", told)
	}
}
