package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/workload"
)

// cgroupRoot is where every Linux distribution mounts its cgroup hierarchies.
const cgroupRoot = "/sys/fs/cgroup"

// engines are the container engines of the host, asked in order; what none of
// them knows is described from its runtime's bundle.
type engines struct {
	docker  []*workload.Docker
	bundles workload.Bundles

	mu    sync.Mutex
	roots map[string]bool // where engines say that they keep their files
}

// usualStorage is where engines keep the files of containers unless somebody
// configured another place, and the way to any process's own root.
var usualStorage = [...]string{
	"/proc", "/var/lib/docker", "/var/lib/containerd", "/run/containerd", "/var/lib/containers", "/run/containers",
	"/var/lib/crio", "/var/lib/kubelet", "/var/lib/rancher", "/var/snap/docker",
}

// storage lists the folders that hold files of containers.
func (e *engines) storage() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Concat(usualStorage[:], slices.Sorted(maps.Keys(e.roots)))
}

// addStorage takes note of an engine's own folder.
func (e *engines) addStorage(folder string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !filepath.IsAbs(folder) || filepath.Clean(folder) == "/" {
		return // no engine's answer makes all of the host a container's
	}
	if e.roots == nil {
		e.roots = map[string]bool{}
	}
	e.roots[filepath.Clean(folder)] = true
}

func openEngines(sockets []string) (*engines, error) {
	e := &engines{}
	for _, socket := range sockets {
		d, err := workload.NewDocker(socket)
		if err != nil {
			return nil, err
		}
		e.docker = append(e.docker, d)
	}
	return e, nil
}

// Describe asks every engine; an engine that is away does not hide the answer
// of the next.
func (e *engines) Describe(ctx context.Context, id string) (workload.Found, error) {
	var failed []error
	for _, d := range e.docker {
		found, err := d.Inspect(ctx, id)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, workload.ErrUnknown) {
			failed = append(failed, err)
		}
	}
	found, err := e.bundles.Inspect(id)
	if err == nil {
		return found, nil
	}
	if len(failed) > 0 { // away is not unknown
		return workload.Found{}, errors.Join(failed...)
	}
	return workload.Found{}, err
}

// handedOver is what the gate says the container's engine told it; false when it
// said nothing of use, and the engine must be asked.
func (e *engines) handedOver(note api.StartNote) (workload.Found, bool) {
	for _, d := range e.docker {
		if d.Socket() != note.Engine || len(note.Inspection) == 0 {
			continue
		}
		found, err := d.Read(note.Inspection, note.References)
		return found, err == nil && found.Container.ID == note.Container.ID
	}
	return workload.Found{}, false
}

// Stop ends a container through the engine that has it, or by its cgroup when
// no engine of this host has.
func (e *engines) Stop(ctx context.Context, id string) error {
	err := e.act(ctx, id, (*workload.Docker).Stop)
	if errors.Is(err, errNoEngine) {
		return killContainer(ctx, cgroupRoot, id)
	}
	return err
}

// Pause freezes a container.
func (e *engines) Pause(ctx context.Context, id string) error {
	return e.act(ctx, id, (*workload.Docker).Pause)
}

func (e *engines) act(ctx context.Context, id string, do func(*workload.Docker, context.Context, string) error) error {
	for _, d := range e.docker {
		if _, err := d.Inspect(ctx, id); err == nil {
			return do(d, ctx, id)
		}
	}
	return fmt.Errorf("container %s: %w", short(id), errNoEngine)
}

// errNoEngine is wrapped when no engine of the host has the container.
var errNoEngine = errors.New("no engine of this host can act on it")
