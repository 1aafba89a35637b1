package enforce_test

import (
	"os"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"golang.org/x/sys/unix"
)

// TestKernelAHeldUpHandlerHoldsUpNoOpening: the handler may itself wait for somebody
// who opens a guarded file, such as whoever keeps evidence. However much was refused
// meanwhile, that opening is answered.
func TestKernelAHeldUpHandlerHoldsUpNoOpening(t *testing.T) {
	g, b, dir := guardedFiles(t, event.EffectBlock)
	if g.opts.Tier1 {
		return // LSM decides; nobody is asked
	}
	opened, before := make(chan struct{}), askedAbout(t, g)
	t.Cleanup(func() { close(opened) })
	g.mu.Lock()
	g.bored = func(e event.Event) bool {
		if e.Kind == event.KindFileOpen && e.Decision != nil {
			<-opened
		}
		return true
	}
	g.mu.Unlock()
	flood := b.command("/bin/sh", "-c", `while :; do true < "$0"; done 2>/dev/null`, dir+"/secret/key")
	if err := start(flood); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = flood.Process.Kill()
		_ = flood.Wait()
	})
	// As much is refused as can wait to be told, and one more.
	for deadline := time.Now().Add(time.Minute); askedAbout(t, g)-before < 1024+2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d openings were asked about", askedAbout(t, g)-before)
		}
	}
	done := make(chan error, 1)
	go func() {
		f, err := os.Open(dir + "/secret/key")
		if err == nil {
			err = f.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("who opens a guarded file waits for the handler")
	}
}

// askedAbout is how many openings the kernel asked about that were to be told.
func askedAbout(t *testing.T, g *guard) uint64 {
	t.Helper()
	accounts, err := g.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if a.Kind == event.KindFileOpen {
			return a.Emitted
		}
	}
	return 0
}

// TestKernelOneFileInTwoContainers: a volume has a name of its own in each container,
// and each is held to its rules about that name.
func TestKernelOneFileInTwoContainers(t *testing.T) {
	g, b, dir := guardedFiles(t, event.EffectBlock)
	again := t.TempDir()
	if err := unix.Mount(dir+"/secret", again, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(again, unix.MNT_DETACH) })
	other := g.box(assign(t, g, fileRules(event.EffectBlock, again+"/**", ""))).lived()
	for deadline := time.Now().Add(20 * time.Second); !stopped(other.act("read %s/key", again)); {
		if time.Now().After(deadline) {
			t.Fatalf("the rules do not come into force:\n%s", g.told())
		}
	}
	if r := b.act("read %s/secret/key", dir); !stopped(r) {
		t.Errorf("in the first container: %+v\n%s", r, g.told())
	}
}
