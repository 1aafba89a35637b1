package sensor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Hierarchy is the cgroup hierarchy that tells containers apart on a host.
type Hierarchy struct {
	// Mode is how the host mounts cgroups: v1, v2, hybrid.
	Mode string
	// Controller is the v1 controller whose groups name containers; "" where
	// the unified hierarchy does.
	Controller string
	// Root is where that hierarchy is mounted.
	Root string
	// Subsystem is the kernel's number of the controller, -1 for unified; ID is
	// the hierarchy's number, 0 for unified.
	Subsystem int
	ID        int
}

const unifiedName = "unified"

// controllers that name containers on v1, the best first: every engine puts
// its containers into them.
var containerControllers = [...]string{"memory", "pids", "cpu", "devices", "freezer"}

// containerScope matches the names that engines give to their containers'
// groups, as the kernel's program does.
var containerScope = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:docker-|libpod-|cri-containerd-|crio-)?([0-9a-f]{64})(?:\.scope)?$`)
})

// ContainerID finds the container's id in the last part of a cgroup path; ""
// when it names none.
func ContainerID(cgroupPath string) string {
	m := containerScope().FindStringSubmatch(filepath.Base(cgroupPath))
	if m == nil {
		return ""
	}
	return m[1]
}

// DetectHierarchy finds out which hierarchy names containers here. On a hybrid
// host that is the unified one, which the network's programs see as well,
// unless running containers show that their engine leaves it alone.
func DetectHierarchy() (Hierarchy, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return Hierarchy{}, err
	}
	unified := mounts[unifiedName]
	if unified != "" && len(mounts) == 1 {
		return Hierarchy{Mode: "v2", Root: unified, Subsystem: -1}, nil
	}
	mode := "hybrid"
	if unified == "" {
		mode = "v1"
	}
	if unified != "" && !onlyInV1("/proc") {
		return Hierarchy{Mode: mode, Root: unified, Subsystem: -1}, nil
	}
	h, err := V1Hierarchy(mode, mounts)
	if err != nil && unified != "" {
		return Hierarchy{Mode: mode, Root: unified, Subsystem: -1}, nil
	}
	return h, err
}

// hierarchyOf finds out which hierarchy names containers below a folder: which one
// it is on a hybrid host may change while engines start and stop containers.
// Without a folder it is that of the whole host.
func hierarchyOf(under string) (Hierarchy, error) {
	h, err := DetectHierarchy()
	if err != nil || h.holds(under) || h.Mode != "hybrid" {
		return h, err
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return h, err
	}
	if other := (Hierarchy{Mode: h.Mode, Root: mounts[unifiedName], Subsystem: -1}); other.holds(under) {
		return other, nil
	}
	if other, err := V1Hierarchy(h.Mode, mounts); err == nil && other.holds(under) {
		return other, nil
	}
	return h, nil
}

// holds says whether a folder is one of the hierarchy's.
func (h Hierarchy) holds(folder string) bool {
	return folder == "" || h.Root != "" && strings.HasPrefix(filepath.Clean(folder)+"/", filepath.Clean(h.Root)+"/")
}

// V1Hierarchy picks the v1 controller that names containers. mounts is where
// controllers are mounted, as DetectHierarchy finds them; nil reads it.
func V1Hierarchy(mode string, mounts map[string]string) (Hierarchy, error) {
	if mounts == nil {
		var err error
		if mounts, err = cgroupMounts(); err != nil {
			return Hierarchy{}, err
		}
	}
	f, err := os.Open("/proc/cgroups")
	if err != nil {
		return Hierarchy{}, fmt.Errorf("cgroup controllers: %w", err)
	}
	defer f.Close()
	table, err := readControllers(f)
	if err != nil {
		return Hierarchy{}, err
	}
	for _, name := range containerControllers {
		if c, ok := table[name]; ok && c.hierarchy > 0 && mounts[name] != "" {
			return Hierarchy{Mode: mode, Controller: name, Root: mounts[name], Subsystem: c.index, ID: c.hierarchy}, nil
		}
	}
	return Hierarchy{}, fmt.Errorf("no cgroup hierarchy that names containers: neither cgroup2 nor one of %s is mounted whole; mount one (mount -t cgroup2 none /sys/fs/cgroup), or in a container give it the host's (docker run --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup)", strings.Join(containerControllers[:], ", "))
}

type controller struct{ index, hierarchy int }

// readControllers reads /proc/cgroups. The kernel writes its controllers in
// the order of their numbers (kernel/cgroup/cgroup-v1.c).
func readControllers(r io.Reader) (map[string]controller, error) {
	table := map[string]controller{}
	sc := bufio.NewScanner(r)
	for i := 0; sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 4 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		id, err := strconv.Atoi(fields[1])
		if err != nil {
			return nil, fmt.Errorf("/proc/cgroups: %q is not a hierarchy number", fields[1])
		}
		table[fields[0]] = controller{index: i, hierarchy: id}
		i++
	}
	return table, sc.Err()
}

// cgroupMounts maps each mounted controller, and unifiedName, to a mount point.
func cgroupMounts() (map[string]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup mounts: %w", err)
	}
	defer f.Close()
	return readCgroupMounts(f)
}

func readCgroupMounts(r io.Reader) (map[string]string, error) {
	mounts := map[string]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || left[3] != "/" {
			continue
		}
		switch right[0] {
		case "cgroup2":
			if mounts[unifiedName] == "" {
				mounts[unifiedName] = left[4]
			}
		case "cgroup":
			for _, option := range strings.Split(right[2], ",") {
				if slices.Contains(containerControllers[:], option) && mounts[option] == "" {
					mounts[option] = left[4]
				}
			}
		}
	}
	return mounts, sc.Err()
}

// onlyInV1 tells whether a running container is absent from the unified tree.
func onlyInV1(proc string) bool {
	paths, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "cgroup"))
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		v1, unified := false, false
		for line := range strings.Lines(string(data)) {
			part := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(part) != 3 || ContainerID(part[2]) == "" {
				continue
			}
			if part[0] == "0" {
				unified = true
			} else {
				v1 = true
			}
		}
		if v1 && !unified {
			return true
		}
	}
	return false
}

// CgroupID is the kernel's number of a cgroup folder: its inode's on 64-bit
// machines (kernfs, 5.5 and later).
func CgroupID(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return st.Ino, nil
}
