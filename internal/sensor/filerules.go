package sensor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"golang.org/x/sys/unix"
)

// fileRule is the control that an opening falls under by a policy's rules about
// files, as judge_file in the programs says it (bpf/include/open.h), and the rule's
// number; bpf.NoControl when it may happen.
func (o *Objects) fileRule(c *bpf.Container, slot *bpf.Slot, path string, write bool) (control uint8, rule uint16) {
	if slot.Flags&bpf.SlotFileRules == 0 {
		return bpf.NoControl, 0
	}
	key := bpf.PathKey{Slot: bpf.FilesSlot + c.Slot}
	// A file's key ends in its NUL. Of a path that is too long the folders of rules
	// are among what there is room for.
	key.Prefixlen = uint32(4+min(copy(key.Path[:], path)+1, len(key.Path))) * 8
	var r bpf.PathRule
	if o.Paths.Lookup(key, &r) != nil {
		return bpf.NoControl, 0
	}
	verdict, number := r.Deep, r.DeepRule
	if r.Len == 0 || int(r.Len) == strings.LastIndexByte(path, '/')+1 {
		verdict, number = r.One, r.OneRule
	}
	has := func(denied, readOnly uint8) bool { return verdict&denied != 0 || write && verdict&readOnly != 0 }
	switch {
	case has(bpf.FileDenied, bpf.FileReadOnly):
		return bpf.ControlFiles, number
	case has(bpf.FileDeniedAudited, bpf.FileReadOnlyAudited):
		return bpf.ControlFilesAudited, 0
	}
	return bpf.NoControl, 0
}

// ruleOf holds every name that an opened file is known by against the rules of its
// container: those that it was marked under, and the one that it was opened by. A
// file has another number after it was copied into an overlay's upper layer, and
// rules may name it by another way than what is watched.
func (o *opens) ruleOf(fd int, what []marked, c *bpf.Container, slot *bpf.Slot, write bool) (path string, control uint8, rule uint16) {
	control = bpf.NoControl
	if slot.Flags&bpf.SlotFileRules == 0 {
		return "", control, 0
	}
	if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
		what = append(what, marked{path: strings.TrimSuffix(name, " (deleted)")})
	}
	for _, m := range what {
		found, by := o.sensor.objects.fileRule(c, slot, m.path, write)
		if found == bpf.ControlFiles || found != bpf.NoControl && control == bpf.NoControl {
			path, control, rule = m.path, found, by
		}
		if control == bpf.ControlFiles {
			break
		}
	}
	return path, control, rule
}

// ruled lists what a slot's rules about files speak of: files, and folders with a
// slash at their end, deep where everything below counts.
func (o *Objects) ruled(slot uint32) map[string]bool {
	list := map[string]bool{}
	var key bpf.PathKey
	var r bpf.PathRule
	for it := o.Paths.Iterate(); it.Next(&key, &r); {
		if key.Slot != bpf.FilesSlot+slot || r.Len == 0 && r.One&^bpf.FileHolds == 0 {
			continue // another's, or only on the way to what rules speak of
		}
		// A file's key ends in its NUL, a folder's does not.
		path := string(key.Path[:min(int(key.Prefixlen/8)-4, len(key.Path))])
		list[strings.TrimSuffix(path, "\x00")] = r.Len != 0 && r.Deep != 0
	}
	return list
}

// maxFolders bounds how many folders are looked into for one container's rules.
const maxFolders = 1024

// ruledTree marks what a container's rules speak of.
type ruledTree struct {
	opens *opens
	root  int // of the container's files
	left  int // folders that may still be looked into
	dev   uint64
	// uncovered is the first thing that could not be marked.
	uncovered string
}

// markRuled marks the files below a root that the container's policy speaks of, and
// names one that could not be, empty when all are.
func (o *opens) markRuled(root int, container string, pid int) (uncovered string) {
	c, slot, known := o.sensor.objects.containerOf(pid)
	if !known || slot.Flags&bpf.SlotFileRules == 0 {
		return ""
	}
	t := ruledTree{opens: o, root: root, left: maxFolders}
	for path, deep := range o.sensor.objects.ruled(c.Slot) {
		m := marked{path: "/" + strings.Trim(path, "/"), control: bpf.NoControl, owner: container, ruled: true}
		t.dev = 0
		t.mark(m, deep)
	}
	return t.uncovered
}

// mark marks a file, or a folder with its files and, where deep, those below it on
// the same file system. What is not there is not opened.
func (t *ruledTree) mark(m marked, deep bool) {
	err := t.opens.markBelow(t.root, m.path, m)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if t.left--; err != nil || t.left < 0 {
		t.miss(m.path)
		return
	}
	if !deep {
		return
	}
	for _, name := range t.folders(m.path) {
		below := m
		below.path = filepath.Join(m.path, name)
		t.mark(below, true)
	}
}

func (t *ruledTree) miss(path string) {
	if t.uncovered == "" {
		t.uncovered = path
	}
}

// folders lists those in a folder of the same file system.
func (t *ruledTree) folders(path string) (names []string) {
	fd, err := unix.Openat2(t.root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil // no folder
	}
	folder := os.NewFile(uintptr(fd), path)
	defer folder.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || t.dev != 0 && st.Dev != t.dev {
		return nil
	}
	t.dev = st.Dev
	entries, err := folder.ReadDir(-1)
	if err != nil {
		t.miss(path)
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}
