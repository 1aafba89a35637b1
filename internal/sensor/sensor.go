package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// treeCapacity bounds the process tree: about 10 MiB.
const treeCapacity = 32768

// patience is how long telemetry may lie in its ring: forks, execs and exits
// do not wake the reader. Each time it wakes, the runtime's own watching costs
// as much as reading a hundred records.
const patience = 100 * time.Millisecond

// clockPeriod is how often the programs are told the time of day.
const clockPeriod = 5 * time.Second

// Settings of a Sensor.
type Settings struct {
	Host  string // written into every event
	Rules Rules  // names what decided; may be nil
	// Watched says which kinds of events somebody looks at; nil: all of them.
	// Forks and exits that nobody does keep the process tree and are not
	// handed on: they are most of what containers do.
	Watched func(event.Kind) bool
	// Journal is a file that keeps the openings the kernel asked about until
	// handle returned; "": an agent that is killed loses what it is killed over.
	Journal string
}

// Sensor reads what the programs report. All methods but Run are safe for
// concurrent use.
type Sensor struct {
	objects *Objects
	decoder decoder
	tree    *tree
	watched func(event.Kind) bool
	// What containers run again and again.
	familiar *familiar

	// started takes the first programs of containers, and their ends, to whoever
	// asks about the openings of their files; nil where programs tell of those.
	started chan event.Event
	renewed chan string // containers that fall under other rules now
	entered entered     // those whose files are asked about
	path    string      // of the journal
	journal *journal    // of what was asked; Run's

	ready chan struct{} // closed when everything is read

	mu  sync.Mutex // one handler at a time
	bad uint64     // records that could not be decoded
}

// New makes a sensor over loaded objects, which must outlive it.
func New(o *Objects, s Settings) (*Sensor, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("boot id: %w", err)
	}
	id, _, _ := strings.Cut(strings.TrimSpace(string(boot)), "-")
	if s.Watched == nil {
		s.Watched = func(event.Kind) bool { return true }
	}
	return &Sensor{
		objects: o,
		ready:   make(chan struct{}),
		watched: s.Watched,
		path:    s.Journal,
		decoder: decoder{host: s.Host, boot: id, rules: s.Rules, sets: capabilitySets{}, now: new(wallClock).at},
		tree:    newTree(treeCapacity), familiar: newFamiliar(o.Familiar), renewed: make(chan string, 64),
	}, nil
}

// Ready is closed when Run reads everything and has marked what it is to be
// asked about on the host.
func (s *Sensor) Ready() <-chan struct{} { return s.ready }

// Reconsider lets executions of a container, or with no name all of them, be told
// again that were not since nothing came of them: the rules have changed.
func (s *Sensor) Reconsider(container string) {
	s.familiar.forget(container)
	if container == "" || s.started == nil {
		return
	}
	select {
	case s.renewed <- container:
	default: // so many at a time are found by their next program
	}
}

// Run, called once, reads events until ctx ends, and calls handle for each, one at a time.
// What an earlier agent did not read comes first. An event of the rings leaves
// them when handle returned: what an agent is killed over is told to the next,
// under the same key. It returns nil when ctx ended, and an error when the rings
// cannot be read any more.
//
// handle answers whether nothing came of an event. Of an execution, the same one
// again (container, lineage, program, arguments and rights) is then not told any
// more but counted, until Reconsider, or until too many others came. Its process is
// told of, as KindFork, when it does something else, or makes a process that does.
func (s *Sensor) Run(ctx context.Context, handle func(event.Event) (nothing bool)) error {
	if err := s.objects.rekey(); err != nil {
		return err
	}
	s.scan()
	var left []event.Event
	var err error
	if s.journal, left, err = openJournal(s.path); err != nil {
		return err
	}
	defer func() { _ = s.journal.close() }() // nothing waits in it
	for _, ev := range left {
		s.hand(ev, handle)
		s.journal.dealt()
	}
	if !s.objects.Tier1 {
		asked, err := s.ask(ctx, handle)
		switch {
		case err == nil:
			defer asked()
		case s.objects.Quiet: // elsewhere a program kills who opens what it must not
			return err
		}
	}
	telemetry, err := openRing(s.objects.Events)
	if err != nil {
		return fmt.Errorf("read the kernel's events: %w", err)
	}
	decisions, err := openRing(s.objects.Decisions)
	if err != nil {
		return errors.Join(fmt.Errorf("read the kernel's decisions: %w", err), telemetry.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := func(r *ring, patience time.Duration, before func()) <-chan error {
		done := make(chan error, 1)
		go func() {
			defer cancel() // one that fails ends both
			done <- s.read(ctx, r, patience, before, handle)
		}()
		return done
	}
	told := read(telemetry, patience, func() {})
	// Decisions wake the reader; it looks by itself for the case that one did not.
	decided := read(decisions, time.Second, func() { s.catchUp(ctx, telemetry) })
	close(s.ready)
	s.keepTime(ctx)
	telemetry.interrupt()
	decisions.interrupt()
	return errors.Join(<-decided, <-told, telemetry.close(), decisions.close())
}

// ask lets the kernel ask about the openings of files, until the returned
// function is called: of those that policies have rules about and, where no program
// sees openings, of those that are watched.
func (s *Sensor) ask(ctx context.Context, handle func(event.Event) bool) (stop func(), err error) {
	o, err := newOpens(s)
	if err != nil {
		return nil, err
	}
	o.say = func(ev event.Event) { s.hand(ev, handle) }
	if !s.objects.Quiet {
		o.changes = nil // programs tell of what is watched
	} else if err := o.markReleaseAgents(); err != nil {
		return nil, errors.Join(fmt.Errorf("ask about openings: %w", err), o.group.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	s.started = make(chan event.Event, 1024)
	var group sync.WaitGroup
	group.Go(func() { o.markers(ctx, s.started) })
	group.Go(func() { _ = o.run() }) // it ends when the group is closed
	group.Go(func() {
		for ev := range o.told {
			s.hand(ev, handle)
			s.journal.dealt()
		}
	})
	if o.changes != nil {
		group.Go(func() { o.changes.run(handle) })
	}
	return func() {
		cancel()
		_ = o.group.Close() // grants what waits
		if o.changes != nil {
			_ = o.changes.group.Close()
		}
		group.Wait()
	}, nil
}

// keepTime returns when ctx ends.
func (s *Sensor) keepTime(ctx context.Context) {
	tick := time.NewTicker(clockPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.objects.SyncClock()
		}
	}
}

// read hands on the records of a ring until ctx ends; before is called before each.
func (s *Sensor) read(ctx context.Context, r *ring, patience time.Duration, before func(), handle func(event.Event) bool) error {
	for ctx.Err() == nil {
		record, end, err := r.next()
		if err == nil && record == nil {
			err = r.wait(patience)
		}
		if err != nil {
			return fmt.Errorf("read a kernel ring: %w", err)
		}
		if record != nil {
			before()
			s.take(record, handle)
			r.passed(end)
		}
	}
	return nil
}

// catchUp lets the telemetry that came before a decision be read first, so
// that the tree knows the decision's process. Bounded: a full ring does not
// hold a decision up.
func (s *Sensor) catchUp(ctx context.Context, telemetry *ring) {
	if !telemetry.waiting() {
		return
	}
	telemetry.interrupt()
	deadline := time.NewTimer(50 * time.Millisecond)
	defer deadline.Stop()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for telemetry.waiting() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

func (s *Sensor) take(raw []byte, handle func(event.Event) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.decoder.decode(raw)
	if err != nil {
		s.unreadable(err, handle)
		return
	}
	since := s.familiar.now()
	s.remember(&rec)
	s.starts(rec)
	if k := rec.event.Kind; (k == event.KindFork || k == event.KindExit) && rec.event.Decision == nil && !s.watched(k) {
		return
	}
	if handle(rec.event) && rec.act != 0 && s.mayPass(rec.event) {
		s.familiar.settle(rec.act, since)
	}
}

// mayPass: nobody waits for the next program of a container.
func (s *Sensor) mayPass(ev event.Event) bool {
	return ev.Kind == event.KindExec && ev.Decision == nil && (s.started == nil || s.entered.has(containerID(ev)))
}

func containerID(ev event.Event) string {
	if ev.Container == nil {
		return ""
	}
	return ev.Container.ID
}

// hand gives an event to the handler that was not read from a ring.
func (s *Sensor) hand(ev event.Event, handle func(event.Event) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := record{event: ev}
	s.meet(ev.Process)
	s.remember(&rec)
	handle(rec.event)
}

// meet reads from /proc those ancestors inside the container that nobody told of,
// for events that no program sends.
func (s *Sensor) meet(p *event.Process) {
	for range treeDepth {
		if p == nil || p.ParentID == "" {
			return
		}
		if _, known := s.tree.get(p.ParentID); known {
			return
		}
		parent, inside := parentInside(*p)
		if !inside {
			return
		}
		s.tree.put(parent)
		p = &parent
	}
}

// starts tells of programs and ends of containers; when nobody keeps up, the
// container's next program will do.
func (s *Sensor) starts(rec record) {
	ev := rec.event
	if s.started == nil || ev.Container == nil || ev.Kind != event.KindExec && (ev.Kind != event.KindContainer || !rec.gone) {
		return
	}
	select {
	case s.started <- ev:
	default:
	}
}

// unreadable tells of records that could not be decoded, the 1st, 10th, 100th…
// time: programs of another version write into the rings.
func (s *Sensor) unreadable(err error, handle func(event.Event) bool) {
	s.bad++
	for n := s.bad; n > 1; n /= 10 {
		if n%10 != 0 {
			return
		}
	}
	now := time.Now()
	handle(event.Event{
		Key:  s.decoder.key(event.KindAgent, uint64(now.UnixNano()), uint32(s.bad)),
		Kind: event.KindAgent, Time: now.UTC(), Host: s.decoder.host,
		Notice: &event.Notice{
			Code: event.NoticeUnreadable, Count: s.bad,
			Message: fmt.Sprintf("The kernel programs told something that this agent cannot read (%v): they are of another version. Stop every agent, run `breakwater unload`, and start one.", err),
		},
	})
}

// uncovered tells of rules about files that not all files could be asked about for.
func (s *Sensor) uncovered(container, path string) event.Event {
	now := time.Now()
	return event.Event{
		Key:  s.decoder.key(event.KindAgent, uint64(now.UnixNano()), 0),
		Kind: event.KindAgent, Time: now.UTC(), Host: s.decoder.host,
		Notice: &event.Notice{
			Code:    event.NoticeUncovered,
			Message: fmt.Sprintf("Not all files that run.files speaks of are guarded in the container %.12s: %s and more could not be marked (at most %d folders of a container, and %d files of all). Name fewer files, or use a host where BPF LSM acts.", container, path, maxFolders, maxMarks),
		},
	}
}

// remember keeps the tree, and completes the event's process from it.
func (s *Sensor) remember(rec *record) {
	p := rec.event.Process
	if p == nil {
		return
	}
	// A program that was refused by LSM never became the process.
	refused := rec.event.Kind == event.KindExec && rec.event.Decision != nil && rec.event.Decision.Outcome == event.Prevented
	if refused {
		p.Path, p.Args = "", nil
	}
	switch {
	case rec.event.Kind == event.KindExec && !refused:
		s.familiar.learn(rec.act, containerID(rec.event), *p)
	case rec.event.Kind == event.KindFork:
		var known bool
		if p.Path, p.Args, known = s.familiar.program(rec.act); !known && rec.act != 0 {
			if lives, err := ReadProcess(p.PID); err == nil && lives.ID == p.ID {
				p.Path, p.Args = lives.Path, lives.Args
			}
		}
	}
	known := s.tree.put(*p)
	p.Path, p.Args, p.ParentPath = known.Path, known.Args, known.ParentPath
	if rec.gone {
		s.tree.end(p.ID)
	}
}

// Tree returns a process and its ancestors as far as they are known, the
// oldest first; empty for an unknown process.
func (s *Sensor) Tree(processID string) []event.Process {
	list := s.tree.ancestry(processID)
	if len(list) == 0 {
		return nil
	}
	// A decision may be read before the telemetry about its parent, and adopted
	// processes were never told: /proc knows a parent that lives.
	for range treeDepth - len(list) {
		parent, ok := parentInside(list[0])
		if !ok {
			break
		}
		list = append([]event.Process{parent}, list...)
	}
	return list
}

// parentInside reads a process's parent from /proc, unless it is another one by
// now or stands in this process's own mount namespace, outside any container.
func parentInside(p event.Process) (event.Process, bool) {
	if p.PPID <= 1 || p.ParentID == "" {
		return event.Process{}, false
	}
	parent, err := ReadProcess(p.PPID)
	if err != nil || parent.ID != p.ParentID {
		return event.Process{}, false
	}
	there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", p.PPID))
	here, errHere := os.Readlink("/proc/self/ns/mnt")
	return parent, err == nil && errHere == nil && there != here
}

// Accounts counts, per kind and since the maps were made, what the kernel
// emitted and what of it found no room in a ring.
func (o *Objects) Accounts() ([]event.Account, error) {
	kinds := map[int]event.Kind{
		bpf.KindFork: event.KindFork, bpf.KindExec: event.KindExec, bpf.KindExit: event.KindExit,
		bpf.KindOpen: event.KindFileOpen, bpf.KindConnect: event.KindConnect, bpf.KindFlow: event.KindFlow,
		bpf.KindSocket: event.KindSocket, bpf.KindContainer: event.KindContainer,
		bpf.KindPrivilege: event.KindPrivilege, bpf.KindListen: event.KindListen, bpf.KindDNS: event.KindDNS,
	}
	var list []event.Account
	for _, k := range sortedKeys(kinds) {
		a := event.Account{Kind: kinds[k]}
		if k == bpf.KindOpen {
			a.Emitted, a.Dropped = o.asked.Load(), o.untold.Load()
		}
		for _, i := range []int{k, k + bpf.Kinds} {
			var cpus []bpf.Counter
			if err := o.Counters.Lookup(uint32(i), &cpus); err != nil {
				return nil, fmt.Errorf("counters: %w", err)
			}
			for _, c := range cpus {
				a.Emitted += c.Emitted
				a.Repeated += c.Repeated
				a.Dropped += c.Dropped
			}
		}
		list = append(list, a)
	}
	return list, nil
}

// LostDecisions is how many decisions found no room in their ring: they were
// carried out, but nobody was told.
func (o *Objects) LostDecisions() (uint64, error) {
	var lost uint64
	for i := bpf.Kinds; i < 2*bpf.Kinds; i++ {
		var cpus []bpf.Counter
		if err := o.Counters.Lookup(uint32(i), &cpus); err != nil {
			return 0, fmt.Errorf("counters: %w", err)
		}
		for _, c := range cpus {
			lost += c.Dropped
		}
	}
	return lost, nil
}
