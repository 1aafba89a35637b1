package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/evidence"
)

// maxToKeep is how many pieces of evidence may wait to be kept.
const maxToKeep = 1024

// keepLater queues a piece of evidence; incidents never wait for it.
func (a *Agent) keepLater(piece func(context.Context) error) {
	select {
	case a.toKeep <- piece:
	default:
		a.problem("evidence", fmt.Errorf("more than %d pieces of evidence wait: some are not kept; incidents are", maxToKeep))
	}
}

// cutEvidence adds the events to each story, until ctx ends.
func (a *Agent) cutEvidence(ctx context.Context) error {
	a.evidence.Run(ctx, a.evidenceProblem)
	return nil
}

// keepEvidence keeps what is queued, until ctx ends.
func (a *Agent) keepEvidence(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case piece := <-a.toKeep:
			a.evidenceProblem(piece(ctx))
		}
	}
}

func (a *Agent) evidenceProblem(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, evidence.ErrNone) {
		return
	}
	a.problem("evidence", err)
}

// look keeps what can be seen of an incident's processes. When the agent is about to
// end the process it is halted before, so that it does nothing more while it is
// looked at; else nobody waits.
func (a *Agent) look(ctx context.Context, inc event.Incident) {
	if !evidence.Wants(inc) {
		return
	}
	if inc.Container != nil { // from now on what is repeated there is told, too
		a.opts.Sensor.Reconsider(inc.Container.ID)
	}
	if !killsProcess(inc) {
		a.keepLater(func(ctx context.Context) error { return a.evidence.Look(ctx, inc) })
		return
	}
	halted := haltProcess(inc.Event.Process)
	a.evidenceProblem(errors.Join(halted, a.looks.within(lookWait, func() error { return a.evidence.Look(ctx, inc) })))
}

// lookWait is how long a process that is to be ended waits, halted, to be looked at:
// what it started runs on meanwhile, and a container that serves its own file
// systems can make a look last for ever.
const lookWait = 2 * time.Second

// looks lets so many at a time go on after nobody waits for them any more.
type looks chan struct{}

// within does something and waits so long for it. What takes longer goes on by
// itself, as long as there is room.
func (l looks) within(wait time.Duration, do func() error) error {
	select {
	case l <- struct{}{}:
	default:
		return fmt.Errorf("%d looks at processes do not come to an end: what the agent ends is not looked at before", cap(l))
	}
	done := make(chan error, 1)
	go func() { // it ends with what it does, and whoever may wait reads one answer
		done <- do()
		<-l
	}()
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case err := <-done:
		return err
	case <-patience.C:
		return fmt.Errorf("a process was ended before it was looked at: that took longer than %v", wait)
	}
}

// killsProcess says whether respond is going to end the incident's process.
func killsProcess(inc event.Incident) bool {
	d := inc.Decision
	return !d.Audit && d.Outcome == event.Detected && (d.Effect == event.EffectBlock || d.Effect == event.EffectKill)
}

// haltProcess stops exactly the process that the event was about, if it lives.
func haltProcess(p *event.Process) error {
	if p == nil || p.PID <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("halt process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if same, err := sameProcess(p); err != nil || !same {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("halt process %d: %w", p.PID, err)
	}
	return nil
}

// answerEvidence sends the bundle of a story in parts.
func (a *Agent) answerEvidence(ctx context.Context, q api.Question, send func(api.AnswerPart) error) error {
	out := bufio.NewWriterSize(partWriter(send), api.MaxPart)
	err := a.evidence.Bundle(ctx, q.Story, out)
	if err == nil {
		err = out.Flush()
	}
	if errors.Is(err, evidence.ErrNone) {
		return fmt.Errorf("%w of it on this host: it is kept of what containers did, of medium severity or worse, and the oldest goes", err)
	}
	return err
}

// partWriter sends what is written as parts.
type partWriter func(api.AnswerPart) error

func (w partWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		some := b[n:min(len(b), n+api.MaxPart)]
		if err := w(api.AnswerPart{Data: some}); err != nil {
			return n, err
		}
		n += len(some)
	}
	return n, nil
}
