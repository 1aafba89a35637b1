package intel_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel"
)

// TestUnusableBundlesAreRefused spoils a good bundle in every way there is;
// each is refused with its reason and the way out, and an update mends it.
func TestUnusableBundlesAreRefused(t *testing.T) {
	p := newPublisher(t)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, data string)
		want  error
	}{
		"flipped byte in the database": {func(t *testing.T, data string) { flip(t, current(data, "bundle.db"), 5000) }, intel.ErrCorrupt},
		"truncated database":           {func(t *testing.T, data string) { truncate(t, current(data, "bundle.db"), 4096) }, intel.ErrCorrupt},
		"empty database":               {func(t *testing.T, data string) { truncate(t, current(data, "bundle.db"), 0) }, intel.ErrCorrupt},
		"no database":                  {func(t *testing.T, data string) { remove(t, current(data, "bundle.db")) }, intel.ErrCorrupt},
		"flipped byte in the manifest": {func(t *testing.T, data string) { flip(t, current(data, "manifest.json"), 40) }, intel.ErrUntrusted},
		"flipped byte in the signature": {func(t *testing.T, data string) {
			flip(t, current(data, "manifest.sig"), 10)
		}, intel.ErrUntrusted},
		"truncated signature": {func(t *testing.T, data string) { truncate(t, current(data, "manifest.sig"), 63) }, intel.ErrUntrusted},
		"no signature":        {func(t *testing.T, data string) { remove(t, current(data, "manifest.sig")) }, intel.ErrCorrupt},
		"signed by another key": {func(t *testing.T, data string) {
			other := t.TempDir()
			build(t, intel.Options{Data: other, Source: p.URL})
			copyFile(t, filepath.Join(other, "keys", "intel.key"), filepath.Join(data, "keys", "intel.key"))
			copyFile(t, filepath.Join(other, "keys", "intel.pub"), filepath.Join(data, "keys", "intel.pub"))
		}, intel.ErrUntrusted},
		"too new": {func(t *testing.T, data string) {
			resign(t, data, func(m *intel.Manifest) { m.Schema = intel.Schema + 1 })
		}, intel.ErrSchema},
		"right signature, other database": {func(t *testing.T, data string) {
			path := current(data, "bundle.db")
			if err := os.WriteFile(path, []byte("SQLite format 3\x00 and nothing else"), 0o600); err != nil {
				t.Fatal(err)
			}
			resign(t, data, func(m *intel.Manifest) {
				text, _ := os.ReadFile(path)
				sum := sha256.Sum256(text)
				m.SHA256, m.Size = hex.EncodeToString(sum[:]), int64(len(text))
			})
		}, intel.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			build(t, intel.Options{Data: data, Source: p.URL})
			c.spoil(t, data)
			_, err := intel.Open(t.Context(), data)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "intel update") {
				t.Fatalf("Open = %v", err)
			}
			m := build(t, intel.Options{Data: data, Source: p.URL})
			if len(m.Failures()) != 0 {
				t.Errorf("the next update: %+v", m.Failures())
			}
			open(t, data)
		})
	}
}

// TestRememberedVerification: opening a second time trusts what was verified,
// but no change of the file, however it is hidden.
func TestRememberedVerification(t *testing.T) {
	data := buildMirror(t)
	path := current(data, "bundle.db")
	deadline := time.Now().Add(20 * time.Second)
	for { // the file must have settled
		if b := open(t, data); b.Close() == nil {
			if _, err := os.Stat(filepath.Join(data, "keys", "intel.verified")); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is remembered")
		}
		time.Sleep(50 * time.Millisecond)
	}
	open(t, data)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, path, 5000)
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := intel.Open(t.Context(), data); !errors.Is(err, intel.ErrCorrupt) {
			t.Errorf("a changed bundle: %v", err)
		}
	}
}

func TestNoBundle(t *testing.T) {
	_, err := intel.Open(t.Context(), t.TempDir())
	if !errors.Is(err, intel.ErrNoBundle) || !strings.Contains(err.Error(), "intel update") {
		t.Errorf("Open = %v", err)
	}
}

// TestUnknownKeyIsNotReplaced: a pin without its key means that somebody else
// signs; building must not put itself in the place.
func TestUnknownKeyIsNotReplaced(t *testing.T) {
	data := buildMirror(t)
	remove(t, filepath.Join(data, "keys", "intel.key"))
	_, err := intel.Build(t.Context(), intel.Options{Data: data, Source: newPublisher(t).URL, Program: "test"})
	if err == nil || !strings.Contains(err.Error(), "trusts bundles of a key that it does not hold") {
		t.Errorf("Build = %v", err)
	}
	open(t, data)
}

func TestOpenBundleOutlivesUpdates(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	build(t, intel.Options{Data: data, Source: p.URL})
	b := open(t, data)
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "minimist")})))
	for range 3 {
		build(t, intel.Options{Data: data, Source: p.URL})
	}
	if findings, _ := match(t, b, npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
		t.Errorf("the open bundle: %q", ids(findings))
	}
	if findings, _ := match(t, open(t, data), npm("minimist", "1.2.5")); ids(findings) != "X-1" {
		t.Errorf("the new bundle: %q", ids(findings))
	}
	if kept, _ := filepath.Glob(filepath.Join(data, "intel", "bundles", "*")); len(kept) != 2 {
		t.Errorf("bundles kept: %v", kept)
	}
}

// TestKillLeavesAGoodBundle kills builders with SIGKILL at many moments of a
// build: the bundle in use is whole every time, and the last build succeeds.
func TestKillLeavesAGoodBundle(t *testing.T) {
	if os.Getenv("INTEL_TEST_BUILD") != "" {
		buildForever(t)
		return
	}
	p, data := newPublisher(t), t.TempDir()
	build(t, intel.Options{Data: data, Source: p.URL})
	for i := range 40 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillLeavesAGoodBundle$")
		cmd.Env = append(os.Environ(), "INTEL_TEST_BUILD="+data, "INTEL_TEST_SOURCE="+p.URL)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The child writes a byte at every step of every build: each round
		// lets it come one step further.
		if _, err := io.ReadFull(out, make([]byte, i+1)); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		b, err := intel.Open(t.Context(), data)
		if err != nil {
			t.Fatalf("after kill %d: %v", i, err)
		}
		if findings, _ := match(t, b, npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
			t.Fatalf("after kill %d: %q", i, ids(findings))
		}
		_ = b.Close()
	}
	build(t, intel.Options{Data: data, Source: p.URL})
	if left, _ := filepath.Glob(filepath.Join(data, "intel", ".build-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func buildForever(t *testing.T) {
	step := func(intel.Progress) { _, _ = os.Stdout.WriteString(".") }
	for {
		_, err := intel.Build(t.Context(), intel.Options{Data: os.Getenv("INTEL_TEST_BUILD"),
			Source: os.Getenv("INTEL_TEST_SOURCE"), Program: "test", Progress: step})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func current(data, name string) string { return filepath.Join(data, "intel", "current", name) }

func flip(t *testing.T, path string, at int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[at] ^= 0x01
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// resign changes a manifest and signs it as the folder's own key would: the
// form of a signature is part of the bundle's contract.
func resign(t *testing.T, data string, change func(*intel.Manifest)) {
	t.Helper()
	var m intel.Manifest
	text, err := os.ReadFile(current(data, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	change(&m)
	if text, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	keyText, err := os.ReadFile(filepath.Join(data, "keys", "intel.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyText)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signed := bytes.Join([][]byte{[]byte("breakwater intelligence manifest v1\n"), text}, nil)
	signature := ed25519.Sign(key.(ed25519.PrivateKey), signed)
	for name, content := range map[string][]byte{"manifest.json": text, "manifest.sig": signature} {
		if err := os.WriteFile(current(data, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
