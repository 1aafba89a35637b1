package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const (
	// intelEvery is how often the agent looks for new intelligence on disk. A
	// look reads one symbolic link.
	intelEvery = 30 * time.Second
	// partWithin is how long one part of a bundle may take: 16 KiB/s are enough.
	partWithin = 30 * time.Second
	// What is wrong with a bundle does not get better by itself: it is tried
	// again after these, growing.
	intelRetryFirst = 30 * time.Second
	intelRetryMost  = 30 * time.Minute
)

// offer takes note of the bundle that the server hands out; the newest counts.
func (a *Agent) offer(bundle string) {
	if bundle == "" {
		return
	}
	select {
	case <-a.offered: // one that nobody took up yet
	default:
	}
	a.offered <- bundle // the heartbeat alone sends
}

// keepIntelligence takes up new bundles, from the disk or the server, until ctx
// ends, and judges every known image by them again.
func (a *Agent) keepIntelligence(ctx context.Context) error {
	tick := time.NewTicker(intelEvery)
	defer tick.Stop()
	var again retry
	for {
		changed, err := a.scanner.refresh(ctx)
		a.problem("intelligence", err)
		if changed {
			version, _ := a.scanner.state()
			a.opts.Log.Info("new intelligence: judging known images again", "bundle", version)
			a.problem("indicators", a.takeIndicators(ctx))
			a.promote(ctx)
			a.judgeByIntelligence(ctx)
			a.heartbeatNow()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.promote(ctx) // one may have ended
		case bundle := <-a.offered:
			a.takeIntelligence(ctx, bundle, &again)
		}
	}
}

// takeIndicators looks for the peers that the bundle in use warns of.
func (a *Agent) takeIndicators(ctx context.Context) error {
	bundle := a.scanner.take()
	if bundle == nil {
		return nil
	}
	defer bundle.users.Done()
	left, err := a.takeDetections(ctx, bundle.Bundle)
	a.problem("detections of intelligence", errors.Join(err, left.err("detection file", "detection files")))
	left, err = a.indicators.load(bundle.Indicators(ctx))
	return errors.Join(err, left.err("indicator", "indicators"))
}

// takeDetections runs the detections that the bundle brings; those of before go
// on when they cannot be read at all. left are the files that hold a mistake or
// cost too much: the others run.
func (a *Agent) takeDetections(ctx context.Context, b *intel.Bundle) (left leavings, err error) {
	files, long, err := b.Detections(ctx)
	if err != nil || files == nil {
		if err == nil {
			a.brought.Store(nil)
			a.opts.Sensor.Reconsider("")
		}
		return left, err
	}
	rules, wrong := detect.LoadRight(files)
	if rules == nil {
		return left, errors.Join(wrong...)
	}
	for _, err := range wrong {
		left.add(err)
	}
	for _, name := range long {
		left.add(fmt.Errorf("%s: with it the bundle's detections are too long together", name))
	}
	a.brought.Store(detect.NewEngine(rules).Excepting(a.excepted.has))
	a.opts.Sensor.Reconsider("")
	return left, nil
}

// leavings are the parts of a bundle that were left out, for they are wrong.
type leavings struct {
	named []string
	count int
}

// namedLeavings is how many are named before they are counted.
const namedLeavings = 5

func (l *leavings) add(err error) {
	if l.count++; l.count <= namedLeavings {
		first, _, _ := strings.Cut(err.Error(), "\n") // each mistake is a line
		l.named = append(l.named, report.Printable(first))
	}
}

// err tells what was left out; nil when nothing was.
func (l *leavings) err(one, many string) error {
	if l.count == 0 {
		return nil
	}
	noun := many + " of the bundle were"
	if l.count == 1 {
		noun = one + " of the bundle was"
	}
	more := ""
	if n := l.count - len(l.named); n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return fmt.Errorf("%d %s left out, the others count: %s%s", l.count, noun, strings.Join(l.named, "; "), more)
}

// alerts are the incidents of detections that intelligence brought. They have
// no effect, whatever they ask for, unless they were promoted; own ones of the
// same id rule. matched: one matches the event, told or not.
func alerts(e *detect.Engine, own *detect.Rules, ev event.Event, run policy.Run) (out []event.Incident, matched bool) {
	if e == nil {
		return nil, false
	}
	ev.Decision = nil // what was decided is told already
	fired, matched := e.Judge(ev, run, nil)
	if len(fired) == 0 {
		return nil, matched
	}
	known := own.Known()
	for _, inc := range fired {
		if _, ours := known[inc.Detection]; ours || inc.Detection == "" {
			continue
		}
		inc.AlwaysOn, inc.Decision.Outcome = false, event.Detected
		if s, named := run.Detections[inc.Detection]; s.Effect == event.EffectAlert || !named && run.Detections[policy.AllDetections].Effect == event.EffectAlert {
			inc.Decision.Effect = event.EffectAlert // also where it calls itself always on
		}
		out = append(out, inc)
	}
	return out, matched
}

// judgeByIntelligence gives every known image the findings of the bundle in use.
// What it knows of malicious programs is held against images by scanning them
// again, when one was matched by another bundle before.
func (a *Agent) judgeByIntelligence(ctx context.Context) {
	another := false
	a.problem("reports", a.images.rejudge(ctx, func(ctx context.Context, r *report.Report) error {
		before := r.Intelligence
		err := a.scanner.match(ctx, r)
		another = another || before == nil || r.Intelligence == nil || before.Version != r.Intelligence.Version
		return err
	}))
	if another && a.scanner.knowsMalware() {
		a.looking.soon(true)
	}
}

// retry keeps a bundle that failed from being tried at every heartbeat.
type retry struct {
	bundle string
	wait   time.Duration
	after  time.Time
}

// takeIntelligence fetches the bundle that the server hands out, unless this
// host has it or makes its own.
func (a *Agent) takeIntelligence(ctx context.Context, bundle string, again *retry) {
	const topic = "intelligence from the server"
	if have, err := intel.Current(a.opts.Intel); err == nil && have == bundle || intel.Own(a.opts.Intel) {
		a.problem(topic, nil)
		return
	}
	if bundle != again.bundle {
		*again = retry{bundle: bundle, wait: intelRetryFirst}
	}
	if time.Now().Before(again.after) {
		return
	}
	m, err := a.fetchIntelligence(ctx, bundle)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		a.opts.Log.Info("intelligence came from the server", "bundle", m.Version)
	case errors.Is(err, bus.ErrUnreachable): // the next heartbeat that is answered goes on
	default:
		again.after, again.wait = time.Now().Add(again.wait), min(2*again.wait, intelRetryMost)
	}
	a.problem(topic, err)
}

func (a *Agent) fetchIntelligence(ctx context.Context, bundle string) (intel.Manifest, error) {
	part := func(ctx context.Context, offset int64) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, partWithin)
		defer cancel()
		p, err := a.opts.Uplink.Intelligence(ctx, bundle, offset)
		return p.Data, err
	}
	within, cancel := context.WithTimeout(ctx, partWithin)
	defer cancel()
	head, err := a.opts.Uplink.Intelligence(within, bundle, 0)
	if err != nil {
		return intel.Manifest{}, err
	}
	return intel.Install(ctx, a.opts.Intel, intel.Offer{Manifest: head.Manifest, Signature: head.Signature, Part: part})
}
