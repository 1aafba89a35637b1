// Package resource knows what containers use of their host: it reads their
// cgroups and processes, judges what stays above a limit or far above the
// container's own past, holds a container to a limit by its cgroup, and reads
// how far the host itself is short of something.
//
// Control groups are read as documented in the kernel's
// admin-guide/cgroup-v2 and admin-guide/cgroup-v1, on hosts that mount either
// or both.
package resource

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrUnknown is returned for a container without a cgroup on this host.
var ErrUnknown = errors.New("it has no cgroup that this agent sees")

// Cgroups finds the control groups of containers. Safe for concurrent use.
type Cgroups struct {
	unified string            // where v2 is mounted; "" when it is not
	legacy  map[string]string // where v1 controllers are mounted

	mu    sync.Mutex
	found map[string]string // container → its path below each mount
	waits map[string]int    // container that was not found → calls of Find to let pass
}

// maxFolders bounds how many control groups one look for containers visits.
const maxFolders = 50_000

// findAgain is after how many calls of Find one looks for a container again
// that was not there.
const findAgain = 12

// OpenCgroups reads where this host mounts its control groups.
func OpenCgroups() (*Cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup mounts: %w", err)
	}
	defer f.Close()
	c := mounts(f)
	if c.unified == "" && len(c.legacy) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup, or give the container of the agent the host's")
	}
	return c, nil
}

// mounts reads proc_pid_mountinfo(5).
func mounts(r io.Reader) *Cgroups {
	c := &Cgroups{legacy: map[string]string{}, found: map[string]string{}, waits: map[string]int{}}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || left[3] != "/" {
			continue
		}
		switch right[0] {
		case "cgroup2":
			if c.unified == "" {
				c.unified = left[4]
			}
		case "cgroup":
			for _, option := range strings.Split(right[2], ",") {
				if slices.Contains([]string{"cpu", "cpuacct", "memory", "pids", "blkio", "freezer"}, option) && c.legacy[option] == "" {
					c.legacy[option] = left[4]
				}
			}
		}
	}
	return c
}

// Find looks for the control groups of containers that it does not know yet,
// in one pass, and forgets all others.
func (c *Cgroups) Find(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, waits := map[string]string{}, map[string]int{}
	missing := map[string]bool{}
	for _, id := range ids {
		if path, ok := c.found[id]; ok {
			found[id] = path
		} else if left := c.waits[id]; left > 0 {
			waits[id] = left - 1
		} else if len(id) >= 12 {
			missing[id] = true
		}
	}
	c.found, c.waits = found, waits
	for _, root := range c.roots() {
		if len(missing) == 0 {
			return
		}
		c.walk(root, missing)
	}
	for id := range missing {
		c.waits[id] = findAgain
	}
}

// roots are the hierarchies that containers are looked for in, the most telling
// first.
func (c *Cgroups) roots() []string {
	var all []string
	for _, root := range []string{c.legacy["memory"], c.legacy["pids"], c.legacy["cpuacct"], c.unified} {
		if root != "" {
			all = append(all, root)
		}
	}
	return all
}

func (c *Cgroups) walk(root string, missing map[string]bool) {
	seen := 0
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // groups come and go while we walk
		}
		if seen++; seen > maxFolders || len(missing) == 0 {
			return fs.SkipAll
		}
		if id := idIn(d.Name()); missing[id] {
			c.found[id] = strings.TrimPrefix(path, root)
			delete(missing, id)
		}
		return nil
	})
}

// idLength is that of the ids of all engines: 64 hexadecimal digits.
const idLength = 64

// idIn is the container's id in the name of a control group, which engines name
// by it alone, or with a prefix and ".scope"; the group of conmon is none.
func idIn(name string) string {
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < idLength || strings.Contains(name, "conmon") {
		return ""
	}
	return name[len(name)-idLength:]
}

// dir is the container's group for a controller. legacy: of cgroup v1.
func (c *Cgroups) dir(id, controller string) (dir string, legacy bool, err error) {
	c.mu.Lock()
	path, ok := c.found[id]
	c.mu.Unlock()
	if !ok {
		return "", false, fmt.Errorf("container %s: %w", id, ErrUnknown)
	}
	if root := c.legacy[controller]; root != "" {
		return root + path, true, nil
	}
	if c.unified == "" {
		return "", false, fmt.Errorf("container %s: no cgroup hierarchy has the controller %s", id, controller)
	}
	return c.unified + path, false, nil
}

// lost forgets where a container's group was: it is gone.
func (c *Cgroups) lost(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.found, id)
}
