package intel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

const partBytes = 4096

// handOut opens the bundle in use of a server's folder for a host.
func handOut(t *testing.T, data string) (*intel.Handout, intel.Offer) {
	t.Helper()
	h, err := intel.OpenHandout(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h, intel.Offer{Manifest: h.Manifest, Signature: h.Signature,
		Part: func(_ context.Context, offset int64) ([]byte, error) { return h.Part(offset, partBytes) }}
}

// host is a data folder that trusts a server's key.
func host(t *testing.T, server string) string {
	t.Helper()
	data := t.TempDir()
	trust(t, data, server)
	return data
}

func trust(t *testing.T, data, server string) {
	t.Helper()
	key, err := intel.TrustedKey(server)
	if err != nil {
		t.Fatal(err)
	}
	if err := intel.Trust(data, key); err != nil {
		t.Fatal(err)
	}
}

func inUse(t *testing.T, data string) string {
	t.Helper()
	id, err := intel.Current(data)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// leftovers lists what is not the bundles in use and before.
func leftovers(t *testing.T, data string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(data, "intel", ".build-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestInstall(t *testing.T) {
	p, server := newPublisher(t), t.TempDir()
	first := build(t, intel.Options{Data: server, Source: p.URL})
	h, offer := handOut(t, server)
	data, second := host(t, server), host(t, server)
	for _, d := range []string{data, second} {
		if m, err := intel.Install(t.Context(), d, offer); err != nil || m.Version != first.Version || inUse(t, d) != h.ID {
			t.Fatalf("%s, %v; in use %s", m.Version, err, inUse(t, d))
		}
		if findings, _ := match(t, open(t, d), npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
			t.Errorf("%q", ids(findings))
		}
	}
	if intel.Own(data) || !intel.Own(server) {
		t.Error("who makes bundles is mistaken")
	}
	if _, err := intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL}); err == nil {
		t.Error("a host that trusts a server's key made a bundle of its own")
	}

	// Confirmed anew, with the same content: nothing is transferred.
	build(t, intel.Options{Data: server, Source: p.URL})
	again, offer := handOut(t, server)
	offer.Part = func(context.Context, int64) ([]byte, error) {
		t.Error("content that was known was asked for")
		return nil, errors.New("gone")
	}
	if _, err := intel.Install(t.Context(), data, offer); err != nil || inUse(t, data) != again.ID || again.ID == h.ID {
		t.Errorf("%v; in use %s", err, inUse(t, data))
	}
	open(t, data)
	if left := leftovers(t, data); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestInstallFaults: whatever is wrong with what is handed out, the bundle in
// use stays, and nothing of the other is left.
func TestInstallFaults(t *testing.T) {
	p, server := newPublisher(t), t.TempDir()
	build(t, intel.Options{Data: server, Source: p.URL, Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	older, olderOffer := handOut(t, server)
	data := host(t, server)
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "minimist")})))
	build(t, intel.Options{Data: server, Source: p.URL})
	newest, offer := handOut(t, server)

	stranger := t.TempDir()
	build(t, intel.Options{Data: stranger, Source: p.URL})
	_, strange := handOut(t, stranger)
	forged := offer
	forged.Manifest = bytes.Replace(offer.Manifest, []byte(`"records": `), []byte(`"records":  `), 1)
	mixed := offer // this manifest, that content
	mixed.Part = olderOffer.Part
	truncated := offer
	truncated.Part = func(_ context.Context, offset int64) ([]byte, error) {
		if offset >= 2*partBytes {
			return nil, nil
		}
		return newest.Part(offset, partBytes)
	}
	endless := offer
	endless.Part = func(context.Context, int64) ([]byte, error) { return make([]byte, 1<<20), nil }

	try := func(before string) {
		t.Helper()
		for _, c := range []struct {
			name  string
			offer intel.Offer
			want  error
		}{
			{"signed by a stranger", strange, intel.ErrUntrusted},
			{"changed manifest", forged, intel.ErrUntrusted},
			{"no signature", intel.Offer{Manifest: offer.Manifest, Part: offer.Part}, intel.ErrUntrusted},
			{"empty", intel.Offer{}, intel.ErrUntrusted},
			{"other content", mixed, intel.ErrCorrupt},
			{"truncated", truncated, intel.ErrCorrupt},
			{"endless", endless, intel.ErrCorrupt},
		} {
			if _, err := intel.Install(t.Context(), data, c.offer); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			if inUse(t, data) != before {
				t.Errorf("%s: the bundle in use changed", c.name)
			}
		}
	}
	try("")
	if _, err := intel.Install(t.Context(), data, olderOffer); err != nil {
		t.Fatal(err)
	}
	try(older.ID)
	if _, err := intel.Install(t.Context(), data, offer); err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Install(t.Context(), data, olderOffer); !errors.Is(err, intel.ErrOlder) || inUse(t, data) != newest.ID {
		t.Errorf("an older one: %v; in use %s", err, inUse(t, data))
	}
	open(t, data)
	if _, err := intel.Install(t.Context(), t.TempDir(), offer); !errors.Is(err, intel.ErrUntrusted) {
		t.Errorf("a host that trusts no key: %v", err)
	}
}

// TestInstallResumes: a transfer that broke off goes on where it was.
func TestInstallResumes(t *testing.T) {
	p, server := newPublisher(t), t.TempDir()
	build(t, intel.Options{Data: server, Source: p.URL})
	h, offer := handOut(t, server)
	data := host(t, server)
	gone := errors.New("server gone")
	var asked []int64
	flaky := offer
	flaky.Part = func(_ context.Context, offset int64) ([]byte, error) {
		asked = append(asked, offset)
		if len(asked)%3 == 0 {
			return nil, gone
		}
		return h.Part(offset, partBytes)
	}
	var err error
	for range 1000 {
		if _, err = intel.Install(t.Context(), data, flaky); err == nil {
			break
		}
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
	}
	if err != nil || inUse(t, data) != h.ID {
		t.Fatalf("%v; in use %s", err, inUse(t, data))
	}
	for i := 1; i < len(asked); i++ {
		if asked[i] < asked[i-1] {
			t.Fatalf("asked for byte %d after %d: it began again", asked[i], asked[i-1])
		}
	}
	open(t, data)
}

// TestInstallWithoutRoom: the bundle does not take the room that incidents need.
func TestInstallWithoutRoom(t *testing.T) {
	testenv.NeedRoot(t)
	p, server, data := newPublisher(t), t.TempDir(), t.TempDir()
	m := build(t, intel.Options{Data: server, Source: p.URL})
	h, offer := handOut(t, server)
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("size=%d", m.Size)); err != nil {
		testenv.Missing(t, "cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, 0) })
	trust(t, data, server)
	if _, err := intel.Install(t.Context(), data, offer); !errors.Is(err, intel.ErrNoRoom) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "intel", ".build-*", "bundle.db")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Install(t.Context(), data, offer); err != nil || inUse(t, data) != h.ID {
		t.Errorf("with room: %v", err)
	}
	if _, err := os.Stat(filepath.Join(data, "keys", "intel.pub")); err != nil {
		t.Error(err)
	}
}
