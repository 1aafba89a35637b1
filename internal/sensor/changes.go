package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"golang.org/x/sys/unix"
)

// changes tells of files that are put into place without being opened there: moved
// or linked under a watched name, or made under one that nobody had when the
// container started (fanotify(7), with the names of entries; on overlayfs since
// Linux 6.6). It costs nothing when files are read. Such an event says that the
// file was opened for writing: what it holds is new.
type changes struct {
	sensor *Sensor
	group  *os.File

	waiting []late // of the goroutine that runs

	mu      sync.Mutex
	folders map[folderKey]*changedFolder
}

// folderKey is how an event names a folder: its file system and handle.
type folderKey struct{ fs, handle string }

// changedFolder is a folder whose entries are watched.
type changedFolder struct {
	path  string // as containers name it
	all   bool   // every entry; the openings of new ones are asked about
	names map[string]bool
	owner bpf.Container
}

// newChanges gives nil where the kernel cannot name entries.
func newChanges(s *Sensor) *changes {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	return &changes{sensor: s, group: os.NewFile(uintptr(fd), "fanotify"), folders: map[folderKey]*changedFolder{}}
}

// mark watches the entries of a folder below the root of a container: one, or
// with an empty name all. File systems that have no handles, or let nobody be
// told (proc), are left out.
func (c *changes) mark(root int, folder, name string, owner bpf.Container) error {
	fd, err := unix.Openat2(root, folder, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if elsewhere(fd) {
		return nil
	}
	key, err := keyOfFolder(fd)
	if err != nil {
		return err
	}
	if !c.add(key, folder, name, owner) {
		return nil // it is marked
	}
	return unix.FanotifyMark(int(c.group.Fd()), unix.FAN_MARK_ADD, unix.FAN_CREATE|unix.FAN_MOVED_TO, unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd))
}

// add says whether the folder is new.
func (c *changes) add(key folderKey, folder, name string, owner bpf.Container) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.folders[key]
	fresh := f == nil
	if fresh {
		if len(c.folders) >= maxMarks {
			return false
		}
		f = &changedFolder{path: folder, names: map[string]bool{}, owner: owner}
		c.folders[key] = f
	}
	if name == "" {
		f.all = true
	} else {
		f.names[name] = true
	}
	return fresh
}

// handleOnly asks for a handle that names a file and need not lead back to it
// (AT_HANDLE_FID, Linux 6.5), which overlayfs has.
const handleOnly = 0x200

func keyOfFolder(fd int) (folderKey, error) {
	handle, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH|handleOnly)
	if errors.Is(err, unix.EINVAL) {
		handle, _, err = unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	}
	if err != nil {
		return folderKey{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return folderKey{}, err
	}
	return folderKey{
		fs:     string(unsafe.Slice((*byte)(unsafe.Pointer(&st.Fsid)), unsafe.Sizeof(st.Fsid))),
		handle: string(binary.NativeEndian.AppendUint32(nil, uint32(handle.Type()))) + string(handle.Bytes()),
	}, nil
}

// forget drops what was marked for a container; its file system takes the
// kernel's marks with it.
func (c *changes) forget(container string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, f := range c.folders {
		if text(f.owner.Id[:]) == container {
			delete(c.folders, key)
		}
	}
}

// late is a change whose process had ended before it could be looked at: what the
// programs told of it may not have been read yet.
type late struct {
	due time.Time
	pid int
	ev  event.Event
}

// maxLate bounds how many wait.
const maxLate = 1024

// run tells until the group is closed.
func (c *changes) run(handle func(event.Event) bool) {
	buf := make([]byte, 16<<10)
	for {
		var deadline time.Time
		if len(c.waiting) > 0 {
			deadline = c.waiting[0].due
		}
		if c.group.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := c.group.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			first := c.waiting[0]
			c.waiting = c.waiting[1:]
			c.hand(first.ev, c.sensor.lately(first.pid), handle)
			continue
		}
		if err != nil {
			return // closed, or nothing to read from any more
		}
		for m, info := range fanotifyRecords(buf[:n]) {
			if key, name, ok := entryOf(info); ok {
				c.tell(key, name, m.Mask, int(m.Pid), handle)
			}
		}
	}
}

// entryOf reads which entry of which folder an event is about: struct
// fanotify_event_info_fid (include/uapi/linux/fanotify.h) with a file_handle and,
// behind it, the name.
func entryOf(info []byte) (key folderKey, name string, ok bool) {
	const header, fsid, handleHead = 4, 8, 8
	if len(info) < header+fsid+handleHead || info[0] != unix.FAN_EVENT_INFO_TYPE_DFID_NAME {
		return key, "", false
	}
	length := int(binary.NativeEndian.Uint16(info[2:]))
	size := int(binary.NativeEndian.Uint32(info[header+fsid:]))
	start := header + fsid + handleHead
	if length > len(info) || size < 0 || start+size > length {
		return key, "", false
	}
	key = folderKey{fs: string(info[header : header+fsid]), handle: string(info[header+fsid+4 : start+size])}
	return key, text(info[start+size : length]), true
}

// tell hands on what is watched. A file that was made in a folder whose files
// are asked about is told when it is opened.
func (c *changes) tell(key folderKey, name string, mask uint64, pid int, handle func(event.Event) bool) {
	c.mu.Lock()
	f := c.folders[key]
	wanted := f != nil && (f.all || f.names[name])
	c.mu.Unlock()
	if !wanted {
		return
	}
	path := filepath.Join(f.path, name)
	st, found := c.look(pid, path)
	if f.all && mask&unix.FAN_MOVED_TO == 0 && found && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink < 2 {
		return
	}
	p, err := ReadProcess(pid)
	owner, _, inside := c.sensor.objects.containerOf(pid)
	gone := err != nil || p.Path == "" // one that was not waited for has no program any more
	if gone {
		owner = f.owner
	} else if !inside {
		return // the host's: an engine, or who hands a container its secrets
	}
	now := uint64(readClock(unix.CLOCK_BOOTTIME))
	ev := event.Event{
		Key:  c.sensor.decoder.key(event.KindFileOpen, now, uint32(pid)),
		Kind: event.KindFileOpen, Time: time.Now().UTC(), Host: c.sensor.decoder.host,
		Container: &event.Container{ID: text(owner.Id[:]), CgroupID: owner.Root},
		File:      &event.File{Path: path, Write: true, Inode: st.Ino},
	}
	switch {
	case !gone:
		c.hand(ev, p, handle)
	case len(c.waiting) < maxLate:
		c.waiting = append(c.waiting, late{time.Now().Add(3 * patience), pid, ev})
	}
}

// hand tells of a change by a process. The tree holds containers' processes only:
// one that nothing is known of was the host's.
func (c *changes) hand(ev event.Event, p event.Process, handle func(event.Event) bool) {
	if p.ID == "" {
		return
	}
	ev.Process = &p
	c.sensor.hand(ev, handle)
}

// look finds the entry as the process that made it sees it.
func (c *changes) look(pid int, path string) (st unix.Stat_t, found bool) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return st, false
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return st, false
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st) == nil
}

// watch marks the folder of a pattern: for a whole path the folder that it lies
// in, for one that ends in /* or /** the folder itself.
func (c *changes) watch(root int, pattern string, owner bpf.Container) error {
	base := strings.TrimSuffix(strings.TrimSuffix(pattern, "/**"), "/*")
	if base != pattern {
		return c.mark(root, base, "", owner)
	}
	return c.mark(root, filepath.Dir(base), filepath.Base(base), owner)
}
