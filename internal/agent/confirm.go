package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/workload"
)

// confirmWait is how long the kernel may take to tell of a container that its
// engine says has started.
const confirmWait = time.Second

// confirm makes sure that the kernel knows a container which its engine has
// started. It does not where its map is full, or where the container is in another
// cgroup hierarchy than those that ran when the agent started. What it can take in
// now it takes in; the rest is a problem of this host.
func (a *Agent) confirm(ctx context.Context, d *workload.Docker, id string) {
	if _, known := a.inKernel(id); known {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(confirmWait):
	}
	running, err := d.Running(ctx)
	if _, known := a.inKernel(id); known || err != nil || !slices.Contains(running, id) {
		return // told meanwhile, or it is over
	}
	_, err = a.opts.Kernel.AdoptRunning()
	a.problem("adopt", err)
	cgroup, known := a.inKernel(id)
	if !known {
		a.problem("unseen "+short(id), fmt.Errorf("container %s runs and is not guarded: the kernel does not know its cgroup, which may be in another hierarchy than when the agent started; restart the agent, it chooses anew", short(id)))
		return
	}
	a.containers.mark(id, cgroup, false)
	a.problem("container "+short(id), ignoreUnknown(a.containers.appeared(ctx, id)))
	a.unjudged.add(id)
	a.problem("unseen "+short(id), fmt.Errorf("container %s is guarded only since the agent looked for it: the kernel did not tell of its start", short(id)))
}

// inKernel finds a container's cgroup among those that the kernel knows; while it
// cannot be asked, which is told elsewhere, it is taken to know.
func (a *Agent) inKernel(id string) (cgroup uint64, known bool) {
	all, err := a.opts.Kernel.Containers()
	if err != nil {
		return 0, true
	}
	i := slices.IndexFunc(all, func(g enforce.Guarded) bool { return g.ID == id })
	if i < 0 {
		return 0, false
	}
	return all[i].CgroupID, true
}
