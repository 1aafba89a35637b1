//go:build linux

package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// scratch is a cgroup of the prober's own in every hierarchy of the host: what
// a canary program acts on, and nothing else.
type scratch struct {
	unified string            // the v2 folder; empty when there is no v2 hierarchy
	private *os.File          // the v2 mount that only this process has; nil: the host's own is used
	noV2    error             // why there is no v2 hierarchy
	id      uint64            // of the v2 cgroup
	legacy  map[string]string // v1 controller → folder
}

// hierarchies are the cgroup mounts of a host.
type hierarchies struct {
	unified string            // mount point of v2
	legacy  map[string]string // v1 controller → mount point
}

// kind is the word for them in event.Doctor.Hierarchy; empty: none is mounted.
func (h hierarchies) kind() string {
	switch {
	case h.unified != "" && len(h.legacy) > 0:
		return "hybrid"
	case h.unified != "":
		return "v2"
	case len(h.legacy) > 0:
		return "v1"
	}
	return ""
}

// readHierarchies reads the format of /proc/self/mounts (proc(5)).
func readHierarchies(mounts string) hierarchies {
	h := hierarchies{legacy: map[string]string{}}
	for _, line := range strings.Split(mounts, "\n") {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		dir := unescapeMount(f[1])
		switch f[2] {
		case "cgroup2":
			if h.unified == "" {
				h.unified = dir
			}
		case "cgroup":
			for _, c := range strings.Split(f[3], ",") {
				switch c {
				case "cpu", "memory", "pids", "freezer", "devices":
					if h.legacy[c] == "" {
						h.legacy[c] = dir
					}
				}
			}
		}
	}
	return h
}

// unescapeMount undoes the octal escapes of /proc/self/mounts.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// scratchPrefix begins the names of scratch cgroups; the prober's process id
// and a word of its own follow.
const scratchPrefix = "breakwater-probe-"

// removeLeftovers takes away the scratch cgroups and folders of probers that
// were killed. What is in use, or not ours to remove, stays.
func removeLeftovers(h hierarchies, folders string) {
	mounts := []string{h.unified}
	for _, m := range h.legacy {
		mounts = append(mounts, m)
	}
	for _, m := range mounts {
		if m == "" {
			continue
		}
		for _, dir := range ofTheDead(m) {
			// A v1 canary that was frozen cannot even die before this.
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
			_ = os.Remove(dir)
		}
	}
	for _, dir := range ofTheDead(folders) {
		var info syscall.Stat_t
		if err := syscall.Lstat(dir, &info); err == nil && info.Uid == 0 {
			_ = os.RemoveAll(dir)
		}
	}
}

// ofTheDead are the scratch names below parent whose prober is no more.
func ofTheDead(parent string) []string {
	paths, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(paths, func(path string) bool {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), scratchPrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || n <= 0 {
			return true
		}
		_, err = os.Stat(filepath.Join("/proc", pid))
		return err == nil
	})
}

func makeScratch(h hierarchies, name string) (*scratch, error) {
	s := &scratch{legacy: map[string]string{}}
	if h.unified == "" {
		if s.private, s.noV2 = mountUnified(); s.noV2 == nil {
			h.unified = fmt.Sprintf("/proc/self/fd/%d", s.private.Fd())
		}
	}
	if h.unified != "" {
		dir := filepath.Join(h.unified, name)
		var info syscall.Stat_t
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = syscall.Stat(dir, &info)
		}
		if err != nil {
			return nil, errors.Join(noScratch(err), s.remove())
		}
		s.unified, s.id = dir, info.Ino // kernfs: a cgroup's id is its folder's inode number
	}
	for controller, mount := range h.legacy {
		dir := filepath.Join(mount, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, errors.Join(noScratch(err), s.remove())
		}
		s.legacy[controller] = dir
	}
	return s, nil
}

// noScratch: containers get the file system of cgroups to read only.
func noScratch(err error) error {
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("make a scratch cgroup: %w: give this process the host's /sys/fs/cgroup to write", err)
	}
	return fmt.Errorf("make a scratch cgroup: %w", err)
}

// mountUnified mounts the v2 hierarchy where nobody sees it: on hosts that
// mount v1 alone the hooks of cgroup v2 work all the same, once something is
// mounted to hang them on. The mount goes with its descriptor.
func mountUnified() (*os.File, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount a cgroup v2 hierarchy: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("mount a cgroup v2 hierarchy: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount a cgroup v2 hierarchy: %w", err)
	}
	return os.NewFile(uintptr(mount), "cgroup2"), nil
}

func (s *scratch) dirs() []string {
	var dirs []string
	if s.unified != "" {
		dirs = append(dirs, s.unified)
	}
	for _, d := range s.legacy {
		dirs = append(dirs, d)
	}
	return dirs
}

// enter moves a process into the scratch cgroup of every hierarchy.
func (s *scratch) enter(pid int) error {
	for _, dir := range s.dirs() {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("move the canary into the scratch cgroup: %w", err)
		}
	}
	return nil
}

// remove takes the scratch cgroups away. A cgroup stays busy for a moment
// after its last process ended.
func (s *scratch) remove() error {
	var errs []error
	for _, dir := range s.dirs() {
		var err error
		for range 200 {
			if err = os.Remove(dir); err == nil || !errors.Is(err, syscall.EBUSY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the scratch cgroup: %w", err))
		}
	}
	if s.private != nil {
		errs = append(errs, s.private.Close())
	}
	return errors.Join(errs...)
}

// controller is the folder that holds a controller's files for the scratch
// cgroup and whether those are v1's; empty when the host gives it to neither.
func (s *scratch) controller(name string) (dir string, legacy bool) {
	if dir, ok := s.legacy[name]; ok {
		return dir, true
	}
	if s.unified == "" {
		return "", false
	}
	have, err := os.ReadFile(filepath.Join(s.unified, "cgroup.controllers"))
	if err != nil {
		return "", false
	}
	for _, c := range strings.Fields(string(have)) {
		if c == name {
			return s.unified, false
		}
	}
	return "", false
}
