package sensor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"golang.org/x/sys/unix"
)

// opens is asked by the kernel before a marked file is opened, whoever opens it
// and by whatever call (fanotify(7), permission events). Where no program sees
// the openings of files it tells of the watched ones, and refuses containers to
// write those that mean escape. It acts only while it runs: closing the group
// grants whatever waits.
//
// One goroutine reads and answers and does nothing slow, for somebody waits; what
// is to be told of goes to another, and marks are placed by a third, so that no
// file is opened by the one that the kernel waits for.
type opens struct {
	sensor *Sensor
	group  *os.File
	told   chan event.Event
	say    func(event.Event) // of what is no opening

	changes *changes // nil: this kernel cannot tell of them

	mu    sync.Mutex
	files map[bpf.FileKey][]marked // of one file one mark for each container and name
}

// marked is what a marked file, or folder, is asked about for.
type marked struct {
	path    string // as containers name it; of a folder with a slash at its end
	control uint8  // bpf.NoControl: it is only told
	owner   string // the container that it was found in; "": a file of the host
	ruled   bool   // it is not told, unless a rule of policy says something about it
}

// maxMarks bounds how many files are kept in the kernel's memory for it, and maxNames
// for how many containers and names one of them is asked about.
const (
	maxMarks = 16384
	maxNames = 64
)

func newOpens(s *Sensor) (*opens, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_TID, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("ask about openings: fanotify_init: %w", err)
	}
	return &opens{
		sensor: s, group: os.NewFile(uintptr(fd), "fanotify"), told: make(chan event.Event, 1024),
		changes: newChanges(s), files: map[bpf.FileKey][]marked{},
	}, nil
}

// run answers until the group is closed. When nothing can be read any more it
// closes the group itself: whoever waits goes on.
func (o *opens) run() error {
	defer close(o.told)
	defer o.group.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := o.group.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is asked about openings: %w", err)
		}
		for m := range fanotifyRecords(buf[:n]) {
			if m.Fd >= 0 {
				o.answer(m)
			}
		}
	}
}

// fanotifyRecords cuts what was read from a group into its records, each with the
// information behind it (fanotify(7)).
func fanotifyRecords(b []byte) iter.Seq2[*unix.FanotifyEventMetadata, []byte] {
	const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
	return func(yield func(*unix.FanotifyEventMetadata, []byte) bool) {
		for len(b) >= size {
			m := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
			end := int(m.Event_len)
			if end < size || end > len(b) || !yield(m, b[size:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// answer decides first and tells afterwards, for somebody waits; what an agent is
// killed over in between is in the journal.
func (o *opens) answer(m *unix.FanotifyEventMetadata) {
	ev, verdict := o.judge(int(m.Fd), int(m.Pid))
	if ev != nil {
		o.sensor.journal.keep(*ev)
	}
	response := binary.NativeEndian.AppendUint32(nil, uint32(m.Fd))
	_, err := o.group.Write(binary.NativeEndian.AppendUint32(response, verdict))
	switch {
	case ev == nil || ev.Decision == nil:
	case err != nil:
		ev.Decision.Outcome = event.Detected
	case verdict == unix.FAN_DENY:
		o.sensor.journal.answered(*ev)
	}
	_ = unix.Close(int(m.Fd)) // of ours, and only read
	if ev != nil {
		o.tell(*ev)
	}
}

// tellWithin is how long whoever opens a file next waits for room to tell of a
// decision: a handler that takes longer may itself wait for one of those openings.
const tellWithin = 5 * time.Second

// tell passes on what was asked about; what finds no room is counted. What was
// decided waits for room first, and is left to the next agent, in the journal, when
// there is none for so long.
func (o *opens) tell(ev event.Event) {
	o.sensor.objects.asked.Add(1)
	select {
	case o.told <- ev:
		return
	default:
	}
	if ev.Decision == nil {
		o.sensor.objects.untold.Add(1)
		o.sensor.journal.dealt()
		return
	}
	patience := time.NewTimer(tellWithin)
	defer patience.Stop()
	select {
	case o.told <- ev:
	case <-patience.C:
		o.sensor.objects.untold.Add(1)
	}
}

// judge says what an opening is, nil where nobody wants to know, and whether it
// may go on.
func (o *opens) judge(fd, tid int) (*event.Event, uint32) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return nil, unix.FAN_ALLOW
	}
	pid := groupOf(tid)
	c, slot, ok := o.sensor.objects.containerOf(pid)
	if !ok {
		return nil, unix.FAN_ALLOW
	}
	what := o.known(fd, &st, text(c.Id[:]))
	write, sure := opensForWriting(tid)
	asked := func(path string, control uint8, rule uint16) (*event.Event, uint32) {
		ev := o.sensor.opened(pid, c, &st, path, write, filesystemOf(fd))
		switch {
		case ev != nil && control != bpf.NoControl:
			return o.decide(ev, control, rule, c, slot)
		case control != bpf.NoControl:
			return nil, unix.FAN_DENY // it ended meanwhile
		}
		return ev, unix.FAN_ALLOW
	}
	for _, m := range what {
		if m.control != bpf.NoControl && (write || !sure) {
			return asked(m.path, m.control, 0)
		}
	}
	if path, control, rule := o.ruleOf(fd, what, &c, &slot, write); control != bpf.NoControl {
		return asked(path, control, rule)
	}
	for _, m := range what {
		if m.control == bpf.NoControl && !m.ruled {
			write = write && sure
			return asked(m.path, bpf.NoControl, 0)
		}
	}
	return nil, unix.FAN_ALLOW
}

// filesystemOf is the kernel's number for the kind of file system; 0 when it does
// not say.
func filesystemOf(fd int) uint64 {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return 0
	}
	return uint64(fs.Type)
}

func (o *opens) decide(ev *event.Event, control uint8, rule uint16, c bpf.Container, slot bpf.Slot) (*event.Event, uint32) {
	h := bpf.Head{Kind: bpf.KindOpen, Slot: c.Slot, Control: control, Rule: rule, Mode: slot.Mode[control&31]}
	verdict := uint32(unix.FAN_ALLOW)
	switch {
	case h.Mode >= bpf.ModeBlock:
		verdict, h.Outcome, h.Mechanism = unix.FAN_DENY, bpf.OutcomePrevented, bpf.MechanismFanotify
	case h.Mode == bpf.ModeDetect:
		h.Outcome = bpf.OutcomeDetected
	}
	if h.Mode == bpf.ModeKill && bpf.IsFileRule(control) {
		_ = unix.Kill(ev.Process.PID, unix.SIGKILL) // it waits for the answer: the number is still its own
	}
	o.sensor.decoder.judge(ev, &h, func(c event.Control) string { return whyFile(c, ev.File) })
	return ev, verdict
}

// known finds what a file is asked about for in a container: by its own marks, or by
// that of the folder that it was put into later. Another container's marks of the same
// file are that one's: it may know it by another name.
func (o *opens) known(fd int, st *unix.Stat_t, container string) (list []marked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.files[fileKey(st)] {
		if (m.owner == container || m.owner == "") && !strings.HasSuffix(m.path, "/") {
			list = append(list, m)
		}
	}
	if len(list) > 0 {
		return list
	}
	// The name begins at the root of some mount: its end tells the folder.
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil
	}
	folder, base := filepath.Split(name)
	for _, marks := range o.files {
		for _, m := range marks {
			if m.owner == container && strings.HasSuffix(m.path, "/") && strings.HasSuffix(folder, m.path) {
				m.path += base
				return []marked{m}
			}
		}
	}
	return nil
}

func fileKey(st *unix.Stat_t) bpf.FileKey {
	return bpf.FileKey{Ino: st.Ino, Dev: KernelDevice(st.Dev)}
}

// errElsewhere is of files that the kernel is not asked about.
var errElsewhere = errors.New("its file system answers by a program or another machine")

// mark asks the kernel about a file that a descriptor (O_PATH) names.
func (o *opens) mark(fd int, m marked) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if elsewhere(fd) {
		return errElsewhere
	}
	mask := uint64(unix.FAN_OPEN_PERM)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		mask |= unix.FAN_EVENT_ON_CHILD
		m.path = strings.TrimSuffix(m.path, "/") + "/"
	} else if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // opening a pipe or a device for an answer would wait, or act
	}
	if err := o.add(fileKey(&st), m); err != nil {
		return err
	}
	err := unix.FanotifyMark(int(o.group.Fd()), unix.FAN_MARK_ADD, mask, unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		o.drop(fileKey(&st), func(other marked) bool { return other == m })
	}
	return err
}

// add notes what a file is asked about for.
func (o *opens) add(key bpf.FileKey, m marked) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	marks, known := o.files[key]
	switch {
	case slices.Contains(marks, m):
		return nil
	case !known && len(o.files) >= maxMarks:
		return fmt.Errorf("more than %d files to ask about", maxMarks)
	case len(marks) >= maxNames:
		return fmt.Errorf("%s: more than %d containers and names to ask about it for", m.path, maxNames)
	}
	o.files[key] = append(marks, m)
	return nil
}

// drop forgets marks of a file.
func (o *opens) drop(key bpf.FileKey, which func(marked) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.files[key] = slices.DeleteFunc(o.files[key], which); len(o.files[key]) == 0 {
		delete(o.files, key)
	}
}

// elsewhere: somebody else answers for the file, a program or another machine, and
// could let whoever is asked about it wait (include/uapi/linux/magic.h).
func elsewhere(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return true
	}
	switch uint32(fs.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC:
		return true
	}
	return false
}

// forget drops what was marked for a container; its file system takes the
// kernel's marks with it.
func (o *opens) forget(container string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, marks := range o.files {
		if o.files[key] = slices.DeleteFunc(marks, func(m marked) bool { return m.owner == container }); len(o.files[key]) == 0 {
			delete(o.files, key)
		}
	}
	if o.changes != nil {
		o.changes.forget(container)
	}
}

// markReleaseAgents marks the files of the host by which a cgroup hierarchy
// makes the kernel run a program (cgroup v1).
func (o *opens) markReleaseAgents() error {
	roots, err := v1Roots()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		path := filepath.Join(root, "release_agent")
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // a hierarchy without one
		}
		if err := o.mark(fd, marked{path: path, control: bpf.ControlReleaseAgent}); err != nil && !errors.Is(err, errElsewhere) {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		_ = unix.Close(fd)
	}
	return errors.Join(errs...)
}

// markWatched marks the watched files below a root. What is made there later is
// not asked about unless its folder is watched; what the kernel asks nothing about,
// as in /proc, is left out.
func (o *opens) markWatched(root int, container string, pid int, patterns []string) {
	c, _, known := o.sensor.objects.containerOf(pid)
	for _, pattern := range patterns {
		base := strings.TrimSuffix(strings.TrimSuffix(pattern, "/**"), "/*")
		_ = o.markBelow(root, base, marked{path: base, control: bpf.NoControl, owner: container})
		if known && o.changes != nil {
			_ = o.changes.watch(root, pattern, c) // the openings are asked about all the same
		}
	}
}

// markBelow resolves a path inside a root, out of which no link leads.
func (o *opens) markBelow(root int, path string, m marked) error {
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := o.mark(fd, m); err != nil {
		return err
	}
	return o.markChildren(fd, m)
}

// maxChildren bounds how many files of one folder are marked one by one because they
// are watched. The others are known by the folder that they lie in. Of those that
// policy speaks of all are, as many as there is room for: a file keeps its mark under
// a name in another folder, too.
const maxChildren = 256

// markChildren marks the files that a folder holds, each under its own name.
func (o *opens) markChildren(fd int, m marked) error {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // an ordinary file
	}
	folder := os.NewFile(uintptr(dir), m.path)
	defer folder.Close()
	var missed error
	for {
		names, err := folder.Readdirnames(maxChildren)
		if err != nil {
			return missed // no folder, or its end
		}
		for _, name := range names {
			if err := o.markChild(fd, name, m); errors.Is(err, errElsewhere) {
				missed = err
			} else if err != nil {
				return err
			}
		}
		if !m.ruled {
			return nil
		}
	}
}

// markChild marks one entry of a folder, if it is a file.
func (o *opens) markChild(folder int, name string, m marked) error {
	child, err := unix.Openat(folder, name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil // gone meanwhile
	}
	defer unix.Close(child)
	m.path = filepath.Join(m.path, name)
	var st unix.Stat_t
	if unix.Fstat(child, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	return o.mark(child, m)
}

// watched is the list of files that openings are told of. Safe for concurrent
// use.
type watched struct {
	mu       sync.Mutex
	patterns []string
}

// SetWatched names the files whose opening is told where that is asked about by
// a Sensor (Quiet): whole paths, and folders that end in /* or /**, of which
// only their own files are asked about. Containers that were seen already keep
// what they have.
func (o *Objects) SetWatched(patterns []string) {
	o.watched.mu.Lock()
	defer o.watched.mu.Unlock()
	o.watched.patterns = append([]string{}, patterns...)
}

// Watched is the list that SetWatched set.
func (o *Objects) Watched() []string {
	o.watched.mu.Lock()
	defer o.watched.mu.Unlock()
	return o.watched.patterns
}

// maxMarking bounds how many containers are marked at a time: the lookup of a path
// may wait for a file system that somebody in the container answers for.
const maxMarking = 8

// progress is how far the marking of a container's files is.
type progress int

const (
	unmarked progress = iota
	marking
	done
)

// markers places marks for containers as they run their first program, until
// ctx ends. A program that ended before it was looked at leaves it to the next.
func (o *opens) markers(ctx context.Context, started <-chan event.Event) {
	type outcome struct {
		id string
		ok bool
	}
	state := map[string]progress{}
	slots := map[string]uint32{} // that containers were marked under
	ended := make(chan outcome, maxMarking)
	busy := 0
	try := func(id string, pid int) {
		if state[id] != unmarked || busy == maxMarking {
			return
		}
		state[id] = marking
		slots[id] = o.sensor.objects.slotOf(id)
		busy++
		go func() { ended <- outcome{id, o.markContainer(id, pid)} }() // there is room for all
	}
	again := func(id string) {
		state[id] = unmarked
		o.sensor.entered.remove(id)
		for pid, of := range o.sensor.objects.running() {
			if of == id {
				try(id, pid)
			}
		}
	}
	before := o.sensor.objects.running() // each has its turn when there is room
	next := func() {
		for pid, id := range before {
			if busy == maxMarking {
				return
			}
			delete(before, pid)
			try(id, pid)
		}
	}
	next()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-ended:
			busy--
			if _, lives := state[e.id]; !lives {
				o.forget(e.id)
			} else if state[e.id] = unmarked; e.ok && o.sensor.objects.slotOf(e.id) != slots[e.id] {
				again(e.id) // its rules changed meanwhile
			} else if e.ok {
				state[e.id] = done
				o.sensor.entered.add(e.id)
			}
			next()
		case id := <-o.sensor.renewed:
			if state[id] != done || o.sensor.objects.slotOf(id) == slots[id] {
				continue
			}
			again(id)
		case ev := <-started:
			id := ev.Container.ID
			if ev.Kind == event.KindContainer {
				delete(state, id)
				delete(slots, id)
				o.forget(id)
				o.sensor.entered.remove(id)
				continue
			}
			if _, known := state[id]; !known {
				if o.sensor.objects.Quiet {
					_ = o.markReleaseAgents() // of hierarchies that are new; the old ones are marked
				}
				state[id] = unmarked
			}
			var c bpf.Container
			if state[id] == done && o.sensor.objects.container(ev.Container.CgroupID, &c) && c.Slot != slots[id] {
				state[id] = unmarked // so many were renewed at a time that nobody told
				o.sensor.entered.remove(id)
			}
			try(id, ev.Process.PID)
		}
	}
}

// markContainer marks what is watched in a container; false when the process is
// gone by which it was to be entered.
func (o *opens) markContainer(id string, pid int) bool {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	if o.sensor.objects.Quiet {
		o.markWatched(root, id, pid, o.sensor.objects.Watched())
	}
	if path := o.markRuled(root, id, pid); path != "" {
		o.say(o.sensor.uncovered(id, path))
	}
	return true
}

// opened makes the event of an opening; nil when the process is gone.
func (s *Sensor) opened(pid int, c bpf.Container, st *unix.Stat_t, path string, write bool, magic uint64) *event.Event {
	p, err := ReadProcess(pid)
	if err != nil {
		return nil
	}
	now := uint64(readClock(unix.CLOCK_BOOTTIME))
	return &event.Event{
		Key:  s.decoder.key(event.KindFileOpen, now, uint32(pid)),
		Kind: event.KindFileOpen, Time: time.Now().UTC(), Host: s.decoder.host,
		Container: &event.Container{ID: text(c.Id[:]), CgroupID: c.Root},
		Process:   &p,
		File:      &event.File{Path: path, Write: write, Inode: st.Ino, Filesystem: filesystem(magic)},
	}
}
