package bus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestFullServerDisk fills the disk under the stream, a real one of 64 MiB, and
// frees it again: agents wait meanwhile, and the bus goes on by itself.
func TestFullServerDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		testenv.Missing(t, "cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	id, authority := newIdentity(t), testenv.NewAuthority(t)
	server, err := bus.Serve(t.Context(), bus.Options{Dir: filepath.Join(dir, "bus"), TLS: authority.ServerTLS(t),
		Agents: map[string]string{"a1": id.public}, Notice: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	h := &harbour{Server: server, authority: authority}
	k := &keep{rows: map[string]int{}}
	h.receive(t, k)
	s := fill(t, 10)
	a := h.connect(t, "a1", id)
	uplink(t, a, s)
	eventually(t, "the first ten", func() bool { return s.Committed() == 10 })

	k.fail(errors.New("not now"))
	put(t, s, "waiting", 10)
	eventually(t, "ten wait in the stream", func() bool { return server.Counts().Retried > 0 })
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	f.Close()
	k.fail(nil) // the stream is acknowledged while it cannot write
	eventually(t, "what waited is stored", func() bool { return k.size() == 20 })
	put(t, s, "more", 2000)
	eventually(t, "the agent is told", func() bool {
		err := a.Err()
		return err != nil && strings.Contains(err.Error(), "cannot take more now")
	})
	t.Log(a.Err())
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything arrives", func() bool { return s.Committed() == 2020 && k.size() == 2020 })
}
