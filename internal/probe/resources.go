//go:build linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// resourcesRow: each limit must have bitten, and the freezer must have stopped
// and let go again.
func (p *prober) resourcesRow() event.Capability {
	const c = event.ControlResources
	var acted []string
	var missing []finding
	for _, l := range []struct {
		name string
		try  func() error
	}{{"pids", p.limitPids}, {"freezer", p.freeze}, {"cpu", p.limitCPU}, {"memory", p.limitMemory}} {
		if err := l.try(); err != nil {
			missing = append(missing, finding{why: l.name + ": " + err.Error(), inconclusive: !errors.Is(err, errNoController)})
			continue
		}
		acted = append(acted, l.name)
	}
	whys := missing
	if len(acted) > 0 {
		whys = append([]finding{{why: "held the canary: " + strings.Join(acted, ", ")}}, missing...)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); err != nil {
		whys = append(whys, finding{why: "pressure on the host is not watched: the kernel does not account it (CONFIG_PSI, psi=1)"})
	}
	if len(missing) == 0 { // limits are written by the agent, when a container is above them
		return row(c, event.StrengthPreventLive, "cgroup", whys...)
	}
	r := row(c, event.StrengthNone, "", whys...)
	r.Fix = "enable the missing controllers: in cgroup.subtree_control of the v2 root, or by a v1 mount of each"
	return r
}

var errNoController = errors.New("the scratch cgroup has no such controller")

// limit writes a controller's setting and returns how to take it back; v1 and
// v2 name their files differently.
func (p *prober) limit(controller, v2file, v2value, v1file, v1value, v2free, v1free string) (dir string, undo func(), err error) {
	dir, legacy := p.scratch.controller(controller)
	if dir == "" {
		return "", nil, errNoController
	}
	file, value, free := v2file, v2value, v2free
	if legacy {
		file, value, free = v1file, v1value, v1free
	}
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.WriteFile(path, []byte(free), 0) }, nil
}

func (p *prober) limitPids() error {
	fork := act{Do: doFork, Path: p.program}
	if errno, err := p.inside(fork); err != nil || errno != 0 {
		return fmt.Errorf("the canary cannot fork unlimited: %s", said(errno, err))
	}
	_, undo, err := p.limit("pids", "pids.max", "1", "pids.max", "1", "max", "max")
	if err != nil {
		return err
	}
	defer undo()
	errno, err := p.inside(fork)
	if err == nil && errno != syscall.EAGAIN {
		err = fmt.Errorf("the canary forked beyond its limit: %s", said(errno, nil))
	}
	return err
}

// freezeGlance is how long a frozen canary is watched not answering; a thawed
// one answers well within patience.
const freezeGlance = 100 * time.Millisecond

func (p *prober) freeze() error {
	if err := p.ready(); err != nil {
		return err
	}
	file, on, off, err := p.freezer()
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(on), 0); err != nil {
		return err
	}
	err = p.in.tell(act{Do: doNothing})
	_, heard := p.in.hear(p.ctx, freezeGlance)
	thaw := os.WriteFile(file, []byte(off), 0)
	if err := errors.Join(err, thaw); err != nil {
		p.fresh()
		return err
	}
	if !errors.Is(heard, errSilent) {
		p.fresh()
		return errors.New("the canary answered while frozen")
	}
	if _, err := p.in.hear(p.ctx, patience); err != nil {
		p.fresh()
		return fmt.Errorf("thawed: %w", err)
	}
	return nil
}

// freezer is cgroup.freeze on v2, which every cgroup has since 5.2, and the
// freezer controller on v1.
func (p *prober) freezer() (file, on, off string, err error) {
	if dir, ok := p.scratch.legacy["freezer"]; ok {
		return filepath.Join(dir, "freezer.state"), "FROZEN", "THAWED", nil
	}
	if p.scratch.unified == "" {
		return "", "", "", errNoController
	}
	return filepath.Join(p.scratch.unified, "cgroup.freeze"), "1", "0", nil
}

func (p *prober) limitCPU() error {
	dir, legacy := p.scratch.controller("cpu")
	if dir == "" {
		return errNoController
	}
	if legacy {
		if err := os.WriteFile(filepath.Join(dir, "cpu.cfs_period_us"), []byte("10000"), 0); err != nil {
			return err
		}
	}
	_, undo, err := p.limit("cpu", "cpu.max", "1000 10000", "cpu.cfs_quota_us", "1000", "max 100000", "-1")
	if err != nil {
		return err
	}
	defer undo()
	if errno, err := p.inside(act{Do: doSpin, Amount: 10}); err != nil || errno != 0 {
		return fmt.Errorf("the canary under a limit: %s", said(errno, err))
	}
	n, err := counter(filepath.Join(dir, "cpu.stat"), "nr_throttled")
	if err == nil && n == 0 {
		err = errors.New("the canary was never throttled")
	}
	return err
}

// memoryLimit is far below what the canary then touches.
const (
	memoryLimit = 8 << 20
	memoryTouch = 64 << 20
)

// limitMemory: the kernel ends the canary, which touches more than it may. A
// host with swap gives it that first.
func (p *prober) limitMemory() error {
	if err := p.ready(); err != nil {
		return err
	}
	limit := strconv.Itoa(memoryLimit)
	dir, undo, err := p.limit("memory", "memory.max", limit, "memory.limit_in_bytes", limit, "max", "-1")
	if err != nil {
		return err
	}
	defer undo()
	noSwap := filepath.Join(dir, "memory.swap.max")
	if _, err := os.Stat(noSwap); err == nil {
		if err := os.WriteFile(noSwap, []byte("0"), 0); err != nil {
			return err
		}
	}
	errno, err := p.inside(act{Do: doAllocate, Amount: memoryTouch})
	switch {
	case errors.Is(err, errKilled), err == nil && errno == syscall.ENOMEM:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("the canary touched %d MiB with a limit of %d: %s", memoryTouch>>20, memoryLimit>>20, said(errno, err))
}

// counter reads one "name value" line of a cgroup's statistics.
func counter(path, name string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
