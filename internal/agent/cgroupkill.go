package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killContainer ends every process of a container by its cgroup, for engines
// that this agent cannot speak to.
func killContainer(ctx context.Context, cgroupRoot, id string) error {
	dir, err := containerCgroup(cgroupRoot, id)
	if err != nil {
		return err
	}
	// cgroup.kill (cgroup v2, Linux 5.14) ends the whole tree at once.
	kill := filepath.Join(dir, "cgroup.kill")
	if _, err := os.Stat(kill); err == nil {
		return os.WriteFile(kill, []byte("1"), 0)
	}
	// Elsewhere a process may fork between reading and killing: repeat until
	// the cgroup is empty, with a bound.
	for range 100 {
		pids, err := processesOf(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(pids) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("container %s: its processes keep coming back", short(id))
}

// containerCgroup finds the folder of a container's cgroup below root. Engines
// name it after the container's id, alone or between a prefix and ".scope".
func containerCgroup(root, id string) (string, error) {
	if len(id) < 12 {
		return "", fmt.Errorf("container id %q: too short to find its cgroup", id)
	}
	found := errors.New("found")
	var dir string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // cgroups come and go while we walk
		}
		if strings.Contains(d.Name(), id) && !strings.Contains(d.Name(), "conmon") {
			dir = path
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		return dir, nil
	}
	return "", fmt.Errorf("container %s: no cgroup below %s", short(id), root)
}

func processesOf(dir string) ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid <= 1 {
			continue
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
