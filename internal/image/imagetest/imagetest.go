// Package imagetest makes image archives for tests: well-formed ones in every
// form that engines write, and the pieces to make ill-formed ones of.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Entry is one entry of a layer or of an outer archive.
type Entry struct {
	tar.Header
	Body []byte
}

// File is a regular file, mode 0644.
func File(path, body string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644}, []byte(body)}
}

// Program is an executable file.
func Program(path string, body []byte) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o755}, body}
}

// Dir is a directory.
func Dir(path string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: 0o755}, nil}
}

// Symlink and Hardlink are links.
func Symlink(path, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target, Mode: 0o777}, nil}
}

// Hardlink is a second name of target.
func Hardlink(path, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeLink, Name: path, Linkname: target, Mode: 0o644}, nil}
}

// Tar writes entries in their order, without changing names.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := w.Write(e.Body); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Form is the form of an archive.
type Form int

// The forms: docker save up to Docker 24, and from 25 on; then with layers
// compressed.
const (
	Old Form = iota
	OCI
	OCIGzip
	OCIZstd
)

// Forms lists all.
func Forms() []Form { return []Form{Old, OCI, OCIGzip, OCIZstd} }

func (f Form) String() string { return [...]string{"old", "oci", "oci-gzip", "oci-zstd"}[f] }

// Image describes one image; layers are plain tar archives.
type Image struct {
	Layers [][]byte
	Tags   []string
	// Config, when set, changes the configuration before it is written.
	Config func(map[string]any)
	// ManifestFirst puts manifest.json before everything else; engines write it last.
	ManifestFirst bool
}

// Digest is the hex SHA-256 of data.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ConfigJSON is the image's configuration: one history step a layer, "STEP 0"
// and so on, with an empty layer between them.
func (i Image) ConfigJSON(t testing.TB) []byte {
	t.Helper()
	var diffs []string
	var history []any
	for n, l := range i.Layers {
		diffs = append(diffs, "sha256:"+Digest(l))
		history = append(history,
			map[string]any{"created_by": fmt.Sprintf("/bin/sh -c #(nop)  STEP %d ", n)},
			map[string]any{"created_by": "ENV A=B", "empty_layer": true})
	}
	config := map[string]any{
		"architecture": "amd64", "os": "linux",
		"config":  map[string]any{"User": "10001", "Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffs},
		"history": history,
	}
	if i.Config != nil {
		i.Config(config)
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Entries are the outer archive's entries.
func (i Image) Entries(t testing.TB, form Form) []Entry {
	t.Helper()
	config := i.ConfigJSON(t)
	configName := Digest(config) + ".json"
	if form != Old {
		configName = "blobs/sha256/" + Digest(config)
	}
	var out []Entry
	var names []string
	seen := map[string]bool{}
	for n, l := range i.Layers {
		blob := Compress(t, l, form)
		name := fmt.Sprintf("%064d/layer.tar", n)
		if form != Old {
			name = "blobs/sha256/" + Digest(blob)
		}
		names = append(names, name)
		if form == Old {
			out = append(out, File(fmt.Sprintf("%064d/VERSION", n), "1.0"), File(fmt.Sprintf("%064d/json", n), "{}"))
		}
		if !seen[name] {
			out = append(out, Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, blob})
		}
		seen[name] = true
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": i.Tags, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	m := File("manifest.json", string(manifest))
	out = append(out, File(configName, string(config)))
	if i.ManifestFirst {
		return append([]Entry{m}, out...)
	}
	return append(out, m)
}

// Archive is the image as `docker save` writes it.
func (i Image) Archive(t testing.TB, form Form) []byte {
	t.Helper()
	return Tar(t, i.Entries(t, form)...)
}

// Compress makes a layer's blob.
func Compress(t testing.TB, data []byte, form Form) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch form {
	case OCIGzip:
		z := gzip.NewWriter(&buf)
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	case OCIZstd:
		z, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	default:
		return data
	}
	return buf.Bytes()
}
