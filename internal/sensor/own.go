package sensor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// OwnContainer is the id of the container that this very process runs in, and the
// numbers of its cgroups, the container's own first; none outside of containers. It asks the kernel
// where this process is: nothing that a container is named, labelled or made
// from takes part.
func OwnContainer(h Hierarchy) (container string, groups []uint64, err error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return "", nil, fmt.Errorf("this process's own cgroup: %w", err)
	}
	defer f.Close()
	group, err := outermost(f, h.Controller)
	if err != nil || group == "" {
		return "", nil, err
	}
	err = filepath.WalkDir(filepath.Join(h.Root, group), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && len(groups) > 0 || err == nil && !d.IsDir() {
			return nil // groups below come and go
		}
		if err != nil {
			return err
		}
		id, err := CgroupID(path)
		groups = append(groups, id)
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("this process's own container: %w; give it the host's cgroups (docker run --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup)", err)
	}
	return ContainerID(group), groups, nil
}

// outermost is the path of the outermost container's group in the text of a
// /proc/PID/cgroup, in the hierarchy of controller ("" for the unified one); ""
// outside of containers.
func outermost(r io.Reader, controller string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return "", fmt.Errorf("this process's own cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 || !slices.Contains(strings.Split(part[1], ","), controller) {
			continue
		}
		found := ""
		for p := filepath.Clean("/" + part[2]); p != "/"; p = filepath.Dir(p) {
			if ContainerID(p) != "" {
				found = p
			}
		}
		return found, nil
	}
	return "", nil
}

// Spare takes the container that this process runs in out of what an earlier
// agent left in force below pin, so that this one lives until it has loaded its
// own (see Load), and gives its id, "" outside of containers. It fails with ErrBusy
// while another agent is there: that one guards this container.
func Spare(pin string) (container string, err error) {
	if pin == "" {
		pin = DefaultPin
	}
	h, err := DetectHierarchy()
	if err != nil {
		return "", nil // Load says it, with what else is missing
	}
	container, own, err := OwnContainer(h)
	if err != nil || len(own) == 0 {
		return "", err
	}
	earlier, err := filepath.Glob(filepath.Join(pin, "maps-*", "containers"))
	if err != nil || len(earlier) == 0 {
		return container, err
	}
	o := &Objects{pin: pin}
	if err := o.acquire(); err != nil {
		return "", err
	}
	defer o.lock.Close()
	for _, path := range earlier {
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			return "", fmt.Errorf("what an earlier agent left in force: %w", err)
		}
		err = errors.Join(forget(m, own), m.Close())
		if err != nil {
			return "", err
		}
	}
	return container, nil
}

// forget removes cgroups from a map of containers, whatever its layout.
func forget(containers *ebpf.Map, cgroups []uint64) error {
	for _, id := range cgroups {
		if err := containers.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("spare this agent's own container: %w", err)
		}
	}
	return nil
}

// SpareOwn takes this process's own container out of enforcement: an agent
// speaks to the engine and reads the host's files, which is what it stops in
// every other container. It gives the container's cgroup, 0 for none.
func (o *Objects) SpareOwn() (uint64, error) {
	_, own, err := OwnContainer(o.Hierarchy)
	if err != nil || len(own) == 0 {
		return 0, err
	}
	return own[0], forget(o.Containers, own)
}
