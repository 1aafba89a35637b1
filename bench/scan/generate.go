package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

const layerCount = 8

// generate writes an archive of about size bytes in the old form of docker
// save, layer after layer, never a whole one in memory.
func generate(path, program string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	out := tar.NewWriter(f)
	g := &generator{random: rand.New(rand.NewPCG(1, 2)), program: program, filler: make([]byte, 1<<20)}
	for i := range g.filler {
		g.filler[i] = byte(g.random.Uint32())
	}
	var diffs, names []string
	for i := range layerCount {
		name, diff, err := g.add(out, path, i, size/layerCount)
		if err != nil {
			return err
		}
		names, diffs = append(names, name), append(diffs, diff)
	}
	if err := finish(out, names, diffs); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return f.Close()
}

type generator struct {
	random  *rand.Rand
	program string
	filler  []byte
}

// add writes one layer beside the archive, then copies it in.
func (g *generator) add(out *tar.Writer, path string, i int, size int64) (name, diff string, err error) {
	tmp, err := os.CreateTemp("", "breakwater-bench-layer-")
	if err != nil {
		return "", "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	hash := sha256.New()
	if err := g.layer(tar.NewWriter(io.MultiWriter(tmp, hash)), i, size); err != nil {
		return "", "", err
	}
	n, err := tmp.Seek(0, io.SeekCurrent)
	if err != nil {
		return "", "", err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return "", "", err
	}
	name = fmt.Sprintf("%064x/layer.tar", i+1)
	if err := out.WriteHeader(header(name, n, 0o644)); err != nil {
		return "", "", err
	}
	_, err = io.Copy(out, tmp)
	return name, "sha256:" + hex.EncodeToString(hash.Sum(nil)), err
}

func header(name string, size int64, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: mode, ModTime: time.Unix(1_700_000_000, 0)}
}

func (g *generator) layer(w *tar.Writer, i int, size int64) error {
	written := int64(0)
	file := func(name string, mode int64, body []byte) error {
		written += int64(len(body)) + 1024
		if err := w.WriteHeader(header(name, int64(len(body)), mode)); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	}
	if err := g.packages(file, i); err != nil {
		return err
	}
	for n := 0; written < size; n++ { // mostly small files, some large: as in /usr
		length := 200 + g.random.IntN(8000)
		if n%50 == 0 {
			length = g.random.IntN(len(g.filler))
		}
		if n >= 2500 {
			length = len(g.filler)
		}
		if err := file(fmt.Sprintf("usr/share/filler/%d/%d/%d.dat", i, n/100, n), 0o644, g.filler[:length]); err != nil {
			return err
		}
	}
	return w.Close()
}

// packages writes the evidence of one layer.
func (g *generator) packages(file func(string, int64, []byte) error, i int) error {
	if i == 0 {
		if err := file("etc/os-release", 0o644, []byte("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")); err != nil {
			return err
		}
	}
	if i < 4 {
		if err := file("var/lib/dpkg/status", 0o644, status(100+i*70)); err != nil {
			return err
		}
	}
	if i == 4 || i == 5 {
		for n := range 1300 {
			body := fmt.Sprintf(`{"name":"module-%d","version":"%d.%d.%d","license":"MIT","description":%q,"scripts":{"test":"true"},"dependencies":{"module-%d":"^1.0.0"}}`,
				n, i, n%20, n%7, bytes.Repeat([]byte("text "), 200), n/2)
			if err := file(fmt.Sprintf("srv/app%d/node_modules/module-%d/package.json", i, n), 0o644, []byte(body)); err != nil {
				return err
			}
		}
	}
	if i >= 6 {
		program, err := os.ReadFile(g.program)
		if err != nil {
			return err
		}
		return file(fmt.Sprintf("usr/local/bin/tool-%d", i), 0o755, program)
	}
	return nil
}

func status(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "Package: lib-sample-%d\nStatus: install ok installed\nPriority: optional\nSection: libs\nInstalled-Size: %d\nMaintainer: Nobody <nobody@example.org>\nArchitecture: amd64\nSource: sample-%d\nVersion: 1.%d.%d-1+deb12u1\nDepends: libc6 (>= 2.36), lib-sample-%d\nDescription: sample package %d\n %s\n\n",
			i, i*10, i/3, i, i%9, i/2, i, bytes.Repeat([]byte("long text "), 40))
	}
	return b.Bytes()
}

func finish(out *tar.Writer, names, diffs []string) error {
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{"bench:1"}, "Layers": names}})
	if err != nil {
		return err
	}
	for name, body := range map[string][]byte{configName: config, "manifest.json": manifest} {
		if err := out.WriteHeader(header(name, int64(len(body)), 0o644)); err != nil {
			return err
		}
		if _, err := out.Write(body); err != nil {
			return err
		}
	}
	return nil
}
