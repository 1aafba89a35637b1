package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of a look at a container's processes.
const (
	maxProcesses   = 64
	maxDescriptors = 256
	maxSockets     = 512
	maxCommand     = 16 << 10
	maxTable       = 1 << 20
	lookWithin     = 2 * time.Second
)

// Look is what processes were at a time.
type Look struct {
	Time      time.Time       `json:"time"`
	Incident  string          `json:"incident"` // its key
	Tree      []event.Process `json:"tree"`     // of the process that acted, the oldest first
	Processes []Process       `json:"processes"`
	Sockets   []Socket        `json:"sockets,omitempty"`
	Gaps      []string        `json:"-"`
}

// Process is one process of the container.
type Process struct {
	PID         int          `json:"pid"`
	Parent      int          `json:"ppid,omitempty"`
	InTree      bool         `json:"inTree,omitempty"` // it acted, or is an ancestor of what did
	Program     string       `json:"program,omitempty"`
	SHA256      string       `json:"sha256,omitempty"`
	Command     []string     `json:"command,omitempty"`
	Folder      string       `json:"folder,omitempty"`
	UIDs        string       `json:"uids,omitempty"` // real, effective, saved, of files
	Descriptors []Descriptor `json:"descriptors,omitempty"`
}

// Descriptor is an open file, pipe or socket.
type Descriptor struct {
	FD     int    `json:"fd"`
	Target string `json:"target"`
}

// Socket is a line of a table of sockets of the container's network namespace, for
// those that its processes hold.
type Socket struct {
	Kind   string `json:"kind"` // tcp, tcp6, udp, udp6
	Inode  string `json:"inode"`
	Local  string `json:"local"`  // as in proc_net_tcp(5): address:port in hex, host order
	Remote string `json:"remote"` // the same
	State  string `json:"state"`  // the same
}

// fileID tells whether a program was hashed already.
type fileID struct {
	device, inode uint64
	changed       int64
}

// look reads /proc while the processes live.
func look(ctx context.Context, inc event.Incident, hashes map[fileID]string) *Look {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	l := &Look{Time: time.Now().UTC(), Incident: inc.Key, Tree: inc.Tree, Processes: []Process{}}
	inTree := map[int]bool{inc.Event.Process.PID: true}
	for _, p := range inc.Tree {
		inTree[p.PID] = true
	}
	sockets := map[string]bool{}
	for _, pid := range members(inc.Container.ID) {
		if ctx.Err() != nil || len(l.Processes) == maxProcesses {
			l.Gaps = append(l.Gaps, fmt.Sprintf("only %d processes of the container were looked at", len(l.Processes)))
			break
		}
		p, err := readProcess(pid, hashes)
		if err != nil {
			continue // it ended
		}
		p.InTree = inTree[pid]
		for _, d := range p.Descriptors {
			if inode, ok := strings.CutPrefix(d.Target, "socket:["); ok {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
		l.Processes = append(l.Processes, p)
	}
	if len(l.Processes) == 0 {
		l.Gaps = append(l.Gaps, "no process of the container was alive any more")
		return l
	}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		l.Sockets = append(l.Sockets, readSockets(l.Processes[0].PID, kind, sockets)...)
	}
	if !slices.ContainsFunc(l.Processes, func(p Process) bool { return p.PID == inc.Event.Process.PID }) {
		l.Gaps = append(l.Gaps, fmt.Sprintf("process %d, which acted, had ended", inc.Event.Process.PID))
	}
	return l
}

// members are the processes whose cgroup is of a container.
func members(container string) []int {
	all, err := os.ReadDir("/proc")
	if err != nil || len(container) < 12 {
		return nil
	}
	var out []int
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if text, err := readSome(fmt.Sprintf("/proc/%d/cgroup", pid), 64<<10); err == nil && strings.Contains(string(text), container) {
			out = append(out, pid)
		}
	}
	return out
}

// readSome reads at most n bytes; procfs has no sizes.
func readSome(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}

func readProcess(pid int, hashes map[fileID]string) (p Process, err error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	p.PID = pid
	if p.Program, err = os.Readlink(dir + "/exe"); err != nil {
		return p, err
	}
	p.SHA256 = hashProgram(dir+"/exe", hashes)
	p.Folder, _ = os.Readlink(dir + "/cwd") // a process that ends meanwhile has none
	if text, err := readSome(dir+"/cmdline", maxCommand); err == nil && len(text) > 0 {
		p.Command = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	}
	if text, err := readSome(dir+"/status", 64<<10); err == nil {
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "PPid":
				p.Parent, _ = strconv.Atoi(strings.TrimSpace(value)) // the kernel's own number
			case "Uid":
				p.UIDs = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return p, nil //nolint:nilerr // it ended meanwhile; the rest is known
	}
	for _, e := range fds[:min(len(fds), maxDescriptors)] {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if target, err := os.Readlink(dir + "/fd/" + e.Name()); err == nil {
			p.Descriptors = append(p.Descriptors, Descriptor{fd, target})
		}
	}
	return p, nil
}

// hashProgram hashes the file that a process runs, through the link that the kernel
// keeps to it, whatever became of its name.
func hashProgram(exe string, hashes map[fileID]string) string {
	f, err := os.Open(exe)
	if err != nil {
		return ""
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Size > maxHashed {
		return ""
	}
	id := fileID{uint64(st.Dev), st.Ino, st.Ctim.Nano()} //nolint:unconvert // its type differs between architectures
	if known, ok := hashes[id]; ok {
		return known
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxHashed)); err != nil {
		return ""
	}
	if len(hashes) > 1024 {
		clear(hashes)
	}
	hashes[id] = hex.EncodeToString(h.Sum(nil))
	return hashes[id]
}

// readSockets reads a table of the network namespace of a process.
func readSockets(pid int, kind string, wanted map[string]bool) (out []Socket) {
	text, err := readSome(fmt.Sprintf("/proc/%d/net/%s", pid, kind), maxTable)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 || !wanted[f[9]] || len(out) == maxSockets {
			continue
		}
		out = append(out, Socket{Kind: kind, Inode: f[9], Local: f[1], Remote: f[2], State: f[3]})
	}
	return out
}

// dropped keeps the file that was executed when it was not the image's, and what
// runs without a name.
func (s *Store) dropped(name string, st *story, inc event.Incident, processes []Process) {
	if x := inc.Event.Exec; x != nil && (x.Upper || x.Modified || x.Fileless) && strings.HasPrefix(x.Path, "/") && !x.Fileless {
		err := errors.New("no process of the container was alive any more")
		for _, p := range processes {
			var f *os.File
			if f, err = openInside(p.PID, x.Path); err != nil {
				continue
			}
			err = s.keep(name, st, f, x.Path, "it was executed", x.Inode)
			f.Close()
			break
		}
		if err != nil {
			st.gap("%s, which was executed: %v", x.Path, err)
		}
	}
	for _, p := range processes {
		if !p.InTree || !strings.HasSuffix(p.Program, " (deleted)") && !strings.HasPrefix(p.Program, "/memfd:") {
			continue
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/exe", p.PID))
		if err == nil {
			err = s.keep(name, st, f, p.Program, fmt.Sprintf("process %d runs it", p.PID), 0)
			f.Close()
		}
		if err != nil {
			st.gap("%s, which process %d ran: %v", p.Program, p.PID, err)
		}
	}
}

// written keeps the files that were written to, as they are now.
func (s *Store) written(name string, st *story) {
	if len(st.Written) == 0 || st.Container == nil {
		return
	}
	alive := members(st.Container.ID)
	for _, path := range st.Written {
		err := errors.New("no process of the container was alive any more")
		for _, pid := range alive {
			var f *os.File
			if f, err = openInside(pid, path); err == nil {
				err = s.keep(name, st, f, path, "it was written to", 0)
				f.Close()
				break
			}
		}
		if err != nil {
			st.gap("%s, which was written to: %v", path, err)
		}
	}
}

// openInside opens a regular file by its path in a process's root. No link inside the
// container leads out of that root, and what is no file is not opened for reading.
func openInside(pid int, path string) (*os.File, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	if hosts(root) {
		return nil, errors.New("the process was on its way into the container, and had the host's root")
	}
	fd, err := unix.Openat2(root, strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	// Looked at before it is opened: to open a device may be an act on the host, and
	// containers may make nodes for devices that they cannot open themselves.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is no file by now")
	}
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(again), path), nil
}

// hosts says whether a folder is the root of this agent, or of the host's first process.
func hosts(root int) bool {
	var here unix.Stat_t
	if unix.Fstat(root, &here) != nil {
		return true
	}
	return slices.ContainsFunc([]string{"/", "/proc/1/root"}, func(path string) bool {
		var there unix.Stat_t
		return unix.Stat(path, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
	})
}

// keep copies a file, within the bounds, under its hash.
func (s *Store) keep(name string, st *story, f *os.File, path, why string, inode uint64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no file by now (%s)", info.Mode().Type())
	}
	if inode != 0 {
		var now unix.Stat_t
		if unix.Fstat(int(f.Fd()), &now) == nil && now.Ino != inode {
			st.gap("%s is another file than the one that was executed: what is kept is what stands there now", path)
		}
	}
	if info.Size() > maxFile || st.Bytes+info.Size() > maxStory {
		return fmt.Errorf("it has %d bytes: at most %d are kept of a file, and %d of a story", info.Size(), int64(maxFile), int64(maxStory))
	}
	tmp, err := os.CreateTemp(s.path(name, "files"), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	size, err := io.Copy(io.MultiWriter(tmp, h), io.LimitReader(f, maxFile))
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if slices.ContainsFunc(st.Files, func(x File) bool { return x.SHA256 == sum && x.Path == path }) {
		return nil
	}
	kept := filepath.Join("files", sum)
	if err := os.Rename(tmp.Name(), s.path(name, kept)); err != nil {
		return err
	}
	st.Bytes += size
	st.Files = append(st.Files, File{Name: kept, Path: path, Why: why, Size: size, SHA256: sum})
	return nil
}
