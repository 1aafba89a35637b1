package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
)

// program is one test binary in a guest. Its JSON form is /tests.json, which
// the guest's /init reads.
type program struct {
	Name string `json:"name"` // of the package
	Run  string `json:"run"`
	Path string `json:"path"` // of the binary in the guest; it runs in that folder

	binary string // on this machine
	source string // the package's folder; its testdata goes with the binary
}

// writeInitrd writes the guest's only file system: /init, busybox and the
// test binaries with their testdata.
func writeInitrd(w io.Writer, init, busybox string, programs []program) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := &archive{w: bufio.NewWriterSize(zip, 1<<20), made: map[string]bool{}}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"} {
		a.dir(dir)
	}
	a.file("init", init, 0o755)
	a.file("bin/busybox", busybox, 0o755)
	a.bytes("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), 0o644)
	list, err := json.Marshal(programs)
	if err != nil {
		return err
	}
	a.bytes("tests.json", list, 0o644)
	for _, p := range programs {
		a.file(p.Path, p.binary, 0o755)
		a.tree(path.Join(path.Dir(p.Path), "testdata"), filepath.Join(p.source, "testdata"))
	}
	a.record("TRAILER!!!", 0, nil)
	if a.err == nil {
		a.err = a.w.Flush()
	}
	if a.err != nil {
		return fmt.Errorf("initrd: %w", a.err)
	}
	return zip.Close()
}

// archive writes the "newc" cpio format of the kernel's initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst). The first
// error stops it.
type archive struct {
	w     *bufio.Writer
	made  map[string]bool
	inode int
	err   error
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func (a *archive) dir(name string) {
	if name == "." || a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.made[name] = true
	a.record(name, modeDir|0o755, nil)
}

func (a *archive) bytes(name string, data []byte, mode int) {
	a.dir(path.Dir(name))
	a.record(name, modeFile|mode, data)
}

func (a *archive) file(name, from string, mode int) {
	data, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.bytes(trimRoot(name), data, mode)
}

func trimRoot(name string) string { return path.Clean("/" + name)[1:] }

// tree copies a folder's regular files; a folder that is not there is empty.
func (a *archive) tree(name, from string) {
	var files []string
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) && a.err == nil {
		a.err = err
	}
	sort.Strings(files)
	for _, f := range files {
		rel, err := filepath.Rel(from, f)
		if err != nil {
			a.err = err
			return
		}
		a.file(path.Join(name, filepath.ToSlash(rel)), f, 0o644)
	}
}

// record writes a header of 13 hexadecimal fields, the name and the data,
// each padded to four bytes.
func (a *archive) record(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	links := 1
	fields := []int{a.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	var head bytes.Buffer
	head.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&head, "%08X", f)
	}
	head.WriteString(name)
	head.WriteByte(0)
	for _, part := range [][]byte{head.Bytes(), data} {
		if _, a.err = a.w.Write(part); a.err != nil {
			return
		}
		if _, a.err = a.w.Write(make([]byte, (4-len(part)%4)%4)); a.err != nil {
			return
		}
	}
}
