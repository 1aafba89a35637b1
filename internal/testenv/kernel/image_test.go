package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// tinyELF is a header that debug/elf accepts.
func tinyELF() []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 2)
	binary.LittleEndian.PutUint16(b[18:], 62)
	binary.LittleEndian.PutUint32(b[20:], 1)
	binary.LittleEndian.PutUint16(b[52:], 64)
	return append(b, bytes.Repeat([]byte("kernel "), 500)...)
}

// bzImage wraps a payload as the boot protocol does, with one set-up sector.
func bzImage(payload []byte, size int) []byte {
	b := make([]byte, 1024)
	b[0x1f1] = 1
	copy(b[0x202:], "HdrS")
	payload = binary.LittleEndian.AppendUint32(payload, uint32(size))
	binary.LittleEndian.PutUint32(b[0x248:], 0)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	return append(b, payload...)
}

func zstdPayload(t testing.TB, data []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(data, nil)
}

// lz4Payload is a legacy frame made by hand: one block of literals, and one
// that repeats the last of its few bytes.
func lz4Payload(data []byte) []byte {
	out := []byte{0x02, 0x21, 0x4c, 0x18}
	block := []byte{0xf0}
	n := len(data) - 15
	for ; n >= 255; n -= 255 {
		block = append(block, 255)
	}
	block = append(append(block, byte(n)), data...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(block)))
	return append(out, block...)
}

func TestVmlinux(t *testing.T) {
	elf := tinyELF()
	for name, payload := range map[string][]byte{"zstd": zstdPayload(t, elf), "lz4": lz4Payload(elf)} {
		got, err := vmlinux(bzImage(payload, len(elf)))
		if err != nil || !bytes.Equal(got, elf) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestVmlinuxRefuses(t *testing.T) {
	elf := tinyELF()
	good := bzImage(lz4Payload(elf), len(elf))
	far := bytes.Clone(good)
	binary.LittleEndian.PutUint32(far[0x24c:], 1<<30)
	for name, c := range map[string]struct {
		image []byte
		want  string
	}{
		"nothing":        {nil, "no boot protocol header"},
		"text":           {bytes.Repeat([]byte("x"), 2048), "no boot protocol header"},
		"far payload":    {far, "outside of the image"},
		"huge":           {bzImage(lz4Payload(elf), 1<<30), "more than"},
		"another packer": {bzImage([]byte("BZh91AY&SY"), 10), "neither zstd nor lz4"},
		"too short":      {bzImage(lz4Payload(elf), len(elf)+1), "unpacks to"},
		"no ELF":         {bzImage(lz4Payload(bytes.Repeat([]byte("no"), 100)), 200), "no ELF kernel"},
	} {
		if _, err := vmlinux(c.image); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestLZ4Match(t *testing.T) {
	// Three literals, then nine bytes from three back: a match that overlaps
	// what it writes; then a last literal.
	got, err := lz4Block(nil, []byte{0x35, 'a', 'b', 'c', 3, 0, 0x10, '!'}, 100)
	if err != nil || string(got) != "abcabcabcabc!" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range [][]byte{{0x35, 'a'}, {0x35, 'a', 'b', 'c', 4, 0}, {0x35, 'a', 'b', 'c', 0, 0}, {0xf0}, {0x10, 'a', 1}} {
		if _, err := lz4Block(nil, bad, 100); err == nil {
			t.Errorf("% x was accepted", bad)
		}
	}
}

// TestLZ4AgainstTheTool compares with what lz4 itself packs.
func TestLZ4AgainstTheTool(t *testing.T) {
	tool, err := exec.LookPath("lz4")
	if err != nil {
		t.Skip("left out: lz4 is missing")
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "-l", "-9", "-c")
	cmd.Stdin = bytes.NewReader(data)
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := unpack(packed, len(data))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d: %v", len(got), len(data), err)
	}
}

func FuzzVmlinux(f *testing.F) {
	elf := tinyELF()
	f.Add(bzImage(lz4Payload(elf), len(elf)))
	f.Add(bzImage(zstdPayload(f, elf), len(elf)))
	f.Fuzz(func(t *testing.T, image []byte) { _, _ = vmlinux(image) })
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte{0x35, 'a', 'b', 'c', 3, 0, 0x10, '!'})
	f.Fuzz(func(t *testing.T, block []byte) {
		const limit = 1 << 16
		if out, err := lz4Block(nil, block, limit); err == nil && len(out) > limit {
			t.Errorf("%d bytes", len(out))
		}
	})
}

// TestInitrd unpacks an initrd with another program's cpio.
func TestInitrd(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Missing(t, "needs busybox: %v", err)
	}
	source := t.TempDir()
	for name, content := range map[string]string{"init": "first", "a.test": "program", "testdata/deep/x": "data"} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	p := program{Name: "./a", Run: "^T", Path: "/tests/0/test", binary: filepath.Join(source, "a.test"), source: source}
	if err := writeInitrd(&b, filepath.Join(source, "init"), busybox, []program{p}); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(busybox, "cpio", "-i", "-d")
	cmd.Dir, cmd.Stdin = dir, z
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"init": "first", "tests/0/test": "program", "tests/0/testdata/deep/x": "data"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "init")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("init: %v, %v", info, err)
	}
	p.binary = filepath.Join(source, "absent")
	if err := writeInitrd(&b, p.binary, busybox, []program{p}); err == nil {
		t.Error("an initrd without its program")
	}
}
