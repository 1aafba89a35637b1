package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
		err = killProcess(inc.Event.Process)
	case event.EffectStop, event.EffectPause, event.EffectIsolate:
		r.Effect, err = endContainer(ctx, want, inc.Container, stopper)
	default:
		err = errors.New("this version cannot do that")
	}
	r.Done = err == nil
	if err != nil {
		r.Message = err.Error()
	} else if inc.Decision.Outcome == event.Detected {
		inc.Decision.Outcome = event.Killed
		inc.Decision.Mechanism = "agent"
	}
	inc.Responses = append(inc.Responses, r)
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

// killProcess ends exactly the process that the event was about: the pid is
// pinned by a pidfd and its start compared, so a reused pid is left alone.
func killProcess(p *event.Process) error {
	if p == nil || p.PID <= 1 {
		return errors.New("the event names no process")
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil // it is gone, which is what was wanted
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	same, err := sameProcess(p)
	if err != nil || !same {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	return nil
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
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false, nil
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 20 {
		return false, fmt.Errorf("/proc/%d/stat: too few fields", p.PID)
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return false, fmt.Errorf("/proc/%d/stat: %w", p.PID, err)
	}
	const tick = uint64(10 * time.Millisecond)
	return want/tick == ticks, nil
}
