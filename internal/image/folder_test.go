package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// collected is a sink that writes down what it sees.
type collected struct{ seen []string }

func (c *collected) Visit(e Entry, content io.Reader) error {
	text := ""
	if content != nil {
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		text = string(data)
	}
	c.seen = append(c.seen, fmt.Sprintf("%s %d %s%s", e.Path, e.Kind, e.Link, text))
	return nil
}

// carry sends a folder through a socket, as between parent and child.
func carry(t *testing.T, ctx context.Context, f Folder, limits Limits) (seen, gaps []string, err error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fds[1]) }()
	sent := make(chan error, 1)
	go func() {
		var err error
		gaps, err = f.Send(ctx, limits, fds[0])
		_ = unix.Close(fds[0])
		sent <- err
	}()
	sink := &collected{}
	_, readErr := NewReader(t.Context(), Options{Limits: limits}, 1).Folder(fds[1], sink)
	sendErr := <-sent
	slices.Sort(sink.seen)
	if sendErr != nil {
		if readErr == nil {
			t.Error("a walk that broke off looked whole to the reader")
		}
		return sink.seen, gaps, sendErr
	}
	return sink.seen, gaps, readErr
}

func everything(Entry) bool { return true }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolderIsCarried(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	write(t, outside, "of the host")
	write(t, dir+"/a/b", "text")
	write(t, dir+"/odd \xff\n\x1b[31m", "x")
	write(t, dir+"/skipped/c", "no")
	for link, target := range map[string]string{"/link": outside, "/up": "../../../../../../etc", "/loop": "loop"} {
		if err := os.Symlink(target, dir+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	got, gaps, err := carry(t, t.Context(), Folder{Path: dir, Wants: everything, Skip: []string{"skipped"}}, Limits{})
	want := []string{"a 1 ", "a/b 0 text", "link 2 " + outside, "loop 2 loop", "odd \xff\n\x1b[31m 0 x", "pipe 4 ", "up 2 ../../../../../../etc"}
	slices.Sort(want)
	if err != nil || len(gaps) > 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, gaps %q, %v", got, gaps, err)
	}
	got, _, err = carry(t, t.Context(), Folder{Path: dir, Wants: func(e Entry) bool { return e.Path == "a/b" }}, Limits{})
	if err != nil || !slices.Contains(got, "a/b 0 text") || !slices.Contains(got, "skipped/c 0 ") {
		t.Errorf("only what is wanted: %q, %v", got, err)
	}
}

func TestOverlayMarks(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	write(t, dir+"/d/kept", "x")
	if err := unix.Mknod(dir+"/d/gone", unix.S_IFCHR, 0); err != nil {
		testenv.Missing(t, "device nodes: %v", err)
	}
	if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(dir+"/d", "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		testenv.Missing(t, "trusted attributes in %s: %v", dir, err)
	}
	got, _, err := carry(t, t.Context(), Folder{Path: dir, Overlay: true, Wants: everything}, Limits{})
	want := []string{"d 1 ", "d/.wh..wh..opq 0 ", "d/.wh.gone 0 ", "d/kept 0 x", "null 4 "}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, mark := range []struct{ path, name string }{{"/d", "trusted.overlay.redirect"}, {"/d/kept", "trusted.overlay.metacopy"}} {
		if err := unix.Setxattr(dir+mark.path, mark.name, []byte("/e"), 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := carry(t, t.Context(), Folder{Path: dir, Overlay: true, Wants: everything}, Limits{}); !errors.Is(err, ErrNotInPlace) {
			t.Errorf("%s: %v", mark.name, err)
		}
		if err := unix.Removexattr(dir+mark.path, mark.name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFolderBounds(t *testing.T) {
	dir := t.TempDir()
	for n := range 200 {
		write(t, fmt.Sprintf("%s/%03d/file with a name of some length", dir, n), "x")
	}
	deep := dir + strings.Repeat("/d", 40)
	write(t, deep+"/bottom", "x")
	var limit *LimitError
	if _, _, err := carry(t, t.Context(), Folder{Path: dir, Wants: everything}, Limits{Entries: 100}); !errors.As(err, &limit) {
		t.Errorf("entries: %v", err)
	}
	_, gaps, err := carry(t, t.Context(), Folder{Path: dir, Wants: everything}, Limits{Depth: 20})
	if err != nil || len(gaps) != 1 || !strings.Contains(gaps[0], "deeper than 20 directories") {
		t.Errorf("depth: gaps %q, %v", gaps, err)
	}
	got, _, err := carry(t, t.Context(), Folder{Path: dir, Wants: everything}, Limits{})
	if err != nil || len(got) != 200*2+41 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := carry(t, ctx, Folder{Path: dir, Wants: everything}, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if open := descriptors(t); open > 60 {
		t.Errorf("%d descriptors are open", open)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestHundredThousandEntries goes through in packets.
func TestHundredThousandEntries(t *testing.T) {
	dir := t.TempDir()
	const n = 100_000
	for i := range n {
		fd, err := unix.Open(fmt.Sprintf("%s/%d", dir, i), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
	}
	got, _, err := carry(t, t.Context(), Folder{Path: dir, Wants: func(e Entry) bool { return strings.HasSuffix(e.Path, "7") }}, Limits{})
	if err != nil || len(got) != n {
		t.Errorf("%d entries, %v", len(got), err)
	}
}
