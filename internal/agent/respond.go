package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// containerStopper ends or freezes whole containers; engines implement it.
type containerStopper interface {
	Stop(ctx context.Context, id string) error
	Pause(ctx context.Context, id string) error
}

// respond carries out what a detection wants done beyond what the kernel did,
// and records it in the incident. A response that is not available on this
// host is recorded as not done, with the reason.
func respond(ctx context.Context, inc *event.Incident, stopper containerStopper) {
	want := inc.Decision.Effect
	if inc.Decision.Audit || want.Rank() < event.EffectBlock.Rank() {
		return
	}
	if inc.Decision.Outcome != event.Detected && want.Rank() <= event.EffectKill.Rank() {
		return // the kernel did it already
	}
	r := event.Response{Effect: want, Time: time.Now().UTC()}
	var err error
	switch want {
	case event.EffectBlock, event.EffectKill: // too late to refuse: the strongest left is to end the process
		r.Effect = event.EffectKill
		r.Descendants, err = killLineage(inc.Event.Process, containerOf(inc))
	case event.EffectStop, event.EffectPause, event.EffectIsolate:
		r.Effect, err = endContainer(ctx, want, inc.Container, stopper)
	default:
		err = errors.New("this version cannot do that")
	}
	r.Done = err == nil
	if r.Descendants > 0 {
		r.Message = fmt.Sprintf("with %d processes that it had started", r.Descendants)
	}
	if err != nil {
		r.Message = err.Error()
	} else if inc.Decision.Outcome == event.Detected {
		inc.Decision.Outcome = event.Killed
		inc.Decision.Mechanism = "agent"
		inc.Sentence = strings.TrimSuffix(inc.Sentence, ".") + responded(r) + "."
	}
	inc.Responses = append(inc.Responses, r)
}

// responded says what was done, as the end of an incident's sentence.
func responded(r event.Response) string {
	switch r.Effect {
	case event.EffectPause:
		return "; Breakwater paused the container"
	case event.EffectStop:
		return "; Breakwater stopped the container"
	}
	return "; Breakwater killed the process"
}

func containerOf(inc *event.Incident) string {
	if inc.Container == nil {
		return ""
	}
	return inc.Container.ID
}

func endContainer(ctx context.Context, want event.Effect, c *event.Container, stopper containerStopper) (event.Effect, error) {
	if c == nil || stopper == nil {
		return want, errors.New("no engine of this host answers for the container")
	}
	switch want {
	case event.EffectPause:
		return want, stopper.Pause(ctx, c.ID)
	case event.EffectIsolate:
		return want, errors.New("isolating is not available in this version")
	default:
		return event.EffectStop, stopper.Stop(ctx, c.ID)
	}
}

// sameProcess says whether the pid still is the process of the event, whose id
// ends in its start in nanoseconds since boot; /proc gives it in clock ticks
// of 10 ms (proc_pid_stat(5), field 22; USER_HZ is 100 on every Linux ABI).
func sameProcess(p *event.Process) (bool, error) {
	_, started, ok := strings.Cut(p.ID, "-")
	want, err := strconv.ParseUint(started, 10, 64)
	if !ok || err != nil {
		return false, fmt.Errorf("process id %q: not of the form pid-start", p.ID)
	}
	stat, err := statOf(p.PID)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	const tick = uint64(10 * time.Millisecond)
	return err == nil && want/tick == stat.ticks, err
}

// procStat is what /proc tells of a process: its parent, and its start in clock ticks.
type procStat struct {
	parent int
	ticks  uint64
}

func statOf(pid int) (s procStat, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 20 {
		return s, fmt.Errorf("/proc/%d/stat: too few fields", pid)
	}
	parent, err := strconv.Atoi(fields[1])
	ticks, also := strconv.ParseUint(fields[19], 10, 64)
	if err = errors.Join(err, also); err != nil {
		return s, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return procStat{parent: parent, ticks: ticks}, nil
}
