package image

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Folder is a directory on this host that is one layer: the diff folder of a
// storage driver, or a root file system.
//
// It is walked by the process that may read it and not by the confined one.
// That process looks at names, kinds and sizes only; it goes from folder to
// folder by descriptors, never through a link, and opens regular files alone.
// The files that somebody wants go to the confined process as descriptors, so
// that one can read nothing else of the host: it needs no path at all.
type Folder struct {
	Path string
	// Overlay: deletions are marked as overlayfs does.
	Overlay bool
	// OneDevice leaves out other file systems that are mounted below.
	OneDevice bool
	// Skip leaves out folders, by path relative to Path.
	Skip []string
	// Wants says which files' content goes to the reader.
	Wants func(e Entry) bool
}

// ErrNotInPlace is in the error for a folder whose content cannot be told from
// the folder alone, or not by this process: overlayfs with redirected folders or
// metadata-only copies, or marks that need CAP_SYS_ADMIN to be seen.
var ErrNotInPlace = errors.New("the engine's storage cannot be read in place (with overlayfs, that takes CAP_SYS_ADMIN and no redirected folders)")

const (
	packetBytes = 32 << 10 // of one packet of entries
	packetFiles = 64       // descriptors of one packet
	entryHead   = 1 + 1 + 4 + 8 + 2 + 2
)

// Send walks the folder and sends its entries to the socket fd (SOCK_SEQPACKET),
// for Reader.Folder at the other end. It gives sentences about what this
// process may not read.
func (f Folder) Send(ctx context.Context, limits Limits, fd int) (gaps []string, err error) {
	root, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: f.Path, Err: err}
	}
	w := walk{Folder: f, ctx: ctx, limits: limits.withDefaults(), out: packets{fd: fd}}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		_ = unix.Close(root)
		return nil, err
	}
	w.device = st.Dev
	if f.Overlay && !seesMarks(st.Uid) {
		_ = unix.Close(root)
		return nil, ErrNotInPlace
	}
	err = errors.Join(w.dir(root, "", 0), w.out.flush())
	if err == nil {
		err = w.out.end()
	}
	if w.refused > 0 {
		gaps = append(gaps, fmt.Sprintf("%d files and folders could not be opened (the first: %s): run as root to read them", w.refused, w.first))
	}
	if w.skipped > 0 {
		gaps = append(gaps, fmt.Sprintf("%d files were not looked at: their names are longer than %d bytes or deeper than %d directories", w.skipped, w.limits.Path, w.limits.Depth))
	}
	return gaps, err
}

type walk struct {
	Folder
	ctx     context.Context
	limits  Limits
	out     packets
	device  uint64
	entries int64
	skipped int
	refused int
	first   string
}

// dir sends what lies in one folder and closes fd.
func (w *walk) dir(fd int, path string, depth int) error {
	defer func() { _ = unix.Close(fd) }()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.Overlay {
		if err := w.marks(fd, path); err != nil {
			return err
		}
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return fmt.Errorf("/%s: %w", path, err)
		}
		if n == 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			name, kind, size := dirent(rest)
			if size == 0 {
				break
			}
			rest = rest[size:]
			if name == "" || name == "." || name == ".." {
				continue
			}
			if err := w.entry(fd, path, name, kind, depth); err != nil {
				return err
			}
		}
	}
}

// dirent reads one struct linux_dirent64 (getdents64(2)): inode 8, offset 8,
// length 2, type 1, name.
func dirent(b []byte) (name string, kind uint8, size int) {
	if len(b) < 19 {
		return "", 0, 0
	}
	size = int(binary.NativeEndian.Uint16(b[16:]))
	if size < 19 || size > len(b) {
		return "", 0, 0
	}
	text := b[19:size]
	for i, c := range text {
		if c == 0 {
			text = text[:i]
			break
		}
	}
	return string(text), b[18], size
}

func (w *walk) entry(dirfd int, dir, name string, kind uint8, depth int) error {
	if w.entries++; w.entries > w.limits.Entries {
		return &LimitError{"files", w.limits.Entries}
	}
	path := name
	if dir != "" {
		path = dir + "/" + name
	}
	if len(path) > w.limits.Path || depth > w.limits.Depth {
		w.skipped++
		return nil
	}
	switch kind {
	case unix.DT_DIR:
		return w.folder(dirfd, name, path, depth)
	case unix.DT_LNK:
		link := make([]byte, 4096)
		n, err := unix.Readlinkat(dirfd, name, link)
		if err != nil {
			return w.refuse(path, err)
		}
		return w.out.add(Entry{Path: path, Kind: Symlink, Link: string(link[:n])}, -1)
	case unix.DT_REG:
		return w.file(dirfd, name, path)
	}
	return w.other(dirfd, dir, name, path, kind, depth)
}

func (w *walk) folder(dirfd int, name, path string, depth int) error {
	for _, skip := range w.Skip {
		if path == skip {
			return nil
		}
	}
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return w.refuse(path, err)
	}
	if w.OneDevice {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Dev != w.device {
			_ = unix.Close(fd)
			return w.refuse(path, err)
		}
	}
	if err := w.out.add(Entry{Path: path, Kind: Dir}, -1); err != nil {
		_ = unix.Close(fd)
		return err
	}
	return w.dir(fd, path, depth+1)
}

func (w *walk) file(dirfd int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.refuse(path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return w.out.add(Entry{Path: path, Kind: Other}, -1)
	}
	e := Entry{Path: path, Kind: File, Size: st.Size, Mode: st.Mode & 0o7777}
	if w.Wants != nil && !w.Wants(e) {
		return w.out.add(e, -1)
	}
	// Not blocking: it may have become a pipe meanwhile.
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		if err := w.refuse(path, err); err != nil {
			return err
		}
		return w.out.add(e, -1)
	}
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return w.out.add(Entry{Path: path, Kind: Other}, -1)
	}
	if w.Overlay && hasAttribute(fd, "overlay.metacopy") {
		_ = unix.Close(fd)
		return ErrNotInPlace
	}
	e.Size = st.Size
	return w.out.add(e, fd)
}

// other: overlayfs marks a deleted file as a character device 0:0. A file
// system that does not tell kinds is asked.
func (w *walk) other(dirfd int, dir, name, path string, kind uint8, depth int) error {
	if kind != unix.DT_CHR && kind != unix.DT_UNKNOWN {
		return w.out.add(Entry{Path: path, Kind: Other}, -1)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.refuse(path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.folder(dirfd, name, path, depth)
	case unix.S_IFREG:
		return w.file(dirfd, name, path)
	case unix.S_IFLNK:
		return w.entry(dirfd, dir, name, unix.DT_LNK, depth)
	case unix.S_IFCHR:
		if w.Overlay && st.Rdev == 0 {
			return w.out.add(Entry{Path: strings.TrimPrefix(dir+"/.wh."+name, "/"), Kind: File}, -1)
		}
	}
	return w.out.add(Entry{Path: path, Kind: Other}, -1)
}

// marks reads what overlayfs says of a folder: opaque hides all below it;
// redirect says that it was another folder.
func (w *walk) marks(fd int, path string) error {
	if hasAttribute(fd, "overlay.redirect") {
		return ErrNotInPlace
	}
	if hasAttribute(fd, "overlay.opaque") || hasAttribute(fd, "fuseoverlayfs.opaque") {
		return w.out.add(Entry{Path: strings.TrimPrefix(path+"/.wh..wh..opq", "/"), Kind: File}, -1)
	}
	return nil
}

// seesMarks says whether this process can see how overlayfs marks what a folder
// owned by uid hides: attributes of the name space trusted are invisible without
// CAP_SYS_ADMIN, and what is hidden would seem to be there. Engines without root
// use the name space user.
func seesMarks(uid uint32) bool {
	if uid != 0 && int(uid) == os.Geteuid() {
		return true
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// hasAttribute asks both name spaces: trusted for engines that run as root,
// user for the others. Value "x" of opaque means a different thing (whiteouts
// below by attribute, Linux 6.7) that no engine writes.
func hasAttribute(fd int, name string) bool {
	var value [8]byte
	for _, space := range []string{"trusted.", "user."} {
		n, err := unix.Fgetxattr(fd, space+name, value[:])
		if err == nil && n > 0 || err == unix.ERANGE {
			return true
		}
	}
	return false
}

// refuse counts what cannot be opened; what went away meanwhile is no loss.
func (w *walk) refuse(path string, err error) error {
	if err == nil || err == unix.ENOENT || err == unix.ELOOP {
		return nil
	}
	if w.refused++; w.refused == 1 {
		w.first = fmt.Sprintf("%q: %v", "/"+path, err)
	}
	return nil
}

// packets sends entries in batches.
type packets struct {
	fd    int
	buf   []byte
	files []int
}

// add takes the descriptor over. One packet holds at least one entry.
func (p *packets) add(e Entry, file int) error {
	size := entryHead + len(e.Path) + len(e.Link)
	if len(p.buf)+size > packetBytes || len(p.files) == packetFiles {
		if err := p.flush(); err != nil {
			if file >= 0 {
				_ = unix.Close(file)
			}
			return err
		}
	}
	has := byte(0)
	if file >= 0 {
		has = 1
		p.files = append(p.files, file)
	}
	p.buf = append(p.buf, byte(e.Kind), has)
	p.buf = binary.LittleEndian.AppendUint32(p.buf, e.Mode)
	p.buf = binary.LittleEndian.AppendUint64(p.buf, uint64(e.Size))
	p.buf = binary.LittleEndian.AppendUint16(p.buf, uint16(len(e.Path)))
	p.buf = binary.LittleEndian.AppendUint16(p.buf, uint16(len(e.Link)))
	p.buf = append(append(p.buf, e.Path...), e.Link...)
	return nil
}

func (p *packets) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	var rights []byte
	if len(p.files) > 0 {
		rights = unix.UnixRights(p.files...)
	}
	err := send(p.fd, p.buf, rights)
	for _, fd := range p.files {
		_ = unix.Close(fd)
	}
	p.buf, p.files = p.buf[:0], p.files[:0]
	return err
}

// end tells the reader that this is all: a walk that broke off has no end.
func (p *packets) end() error { return send(p.fd, []byte{endOfEntries}, nil) }

const endOfEntries = 0xff

func send(fd int, data, rights []byte) error {
	for {
		err := unix.Sendmsg(fd, data, rights, nil, unix.MSG_NOSIGNAL)
		switch err {
		case unix.EINTR:
			continue
		case nil:
			return nil
		}
		return os.NewSyscallError("sendmsg", err)
	}
}
