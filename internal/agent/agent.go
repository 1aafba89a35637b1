// Package agent is the program that guards one host: it puts policy into the
// kernel for every container, turns what the kernel reports into incidents,
// answers the gate, and reports to the server when there is one. Without a
// server it goes on with the last good policy for as long as it takes.
//
// Its parts are goroutines with one owner each, started and joined by Run: the
// sensor's reader, the engine watchers, the workers, the judges of containers,
// the recorder of incidents, the gate's desk, the uplink, the policy keeper, the
// heartbeat, the intelligence keeper, the one that looks at known images again and the one that
// measures what containers use.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/detect/story"
	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/evidence"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/journal"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/spool"
)

// Kernel is what the agent needs of the enforcement in the kernel.
type Kernel interface {
	assigner
	SetDefault(run policy.Run) error
	// AdoptRunning brings containers under enforcement that ran before; it
	// returns their ids.
	AdoptRunning() (ids []string, err error)
	// Containers are those the kernel knows, the adopted ones too.
	Containers() ([]enforce.Guarded, error)
	// Assigned are the ids of all containers that a policy was assigned to.
	Assigned() ([]string, error)
	SetEngineSockets(paths []string) error
	// SetStorage names the folders that engines keep containers' files in.
	SetStorage(folders []string) error
	Watch(patterns ...string) error
	Settle() error
	Accounts() ([]event.Account, error)
	// LostDecisions is how many decisions nobody was told of.
	LostDecisions() (uint64, error)
}

// Sensor delivers what the kernel saw, in order, on one goroutine.
type Sensor interface {
	// Run's handle answers whether nothing came of an event: the same again need
	// not be told until Reconsider.
	Run(ctx context.Context, handle func(event.Event) (nothing bool)) error
	// Reconsider: what was decided about a container's events no longer holds; with
	// no name, about all.
	Reconsider(containerID string)
	Tree(processID string) []event.Process
}

// Uplink is the way to the server; nil in Options means there is none.
type Uplink interface {
	// Uplink sends what the spool holds until ctx ends.
	Uplink(ctx context.Context, q bus.Queue) error
	Status(ctx context.Context, st event.HostStatus) (api.StatusAnswer, error)
	Intelligence(ctx context.Context, bundle string, offset int64) (api.IntelligencePart, error)
	Policy(ctx context.Context) (api.Signed, error)
	PolicyChanges() <-chan struct{}
	// Refused is how many batches the server will never store.
	Refused() uint64
}

// Options say what one agent guards and with what.
type Options struct {
	ID      string
	Host    string
	Version string
	Data    string   // the agent's folder; made with mode 0750 when absent
	Intel   string   // the data folder that the intelligence bundle lies in
	Sockets []string // of Docker engines
	Malware string   // address of a ClamAV daemon that is shown the files of images; "" for none
	// Own is the container that this agent runs in, which is neither judged nor
	// guarded; "": none.
	Own string
	// Fresh: nothing of an earlier agent was found in the kernel, so what runs
	// was there before.
	Fresh bool
	// Observe: record everything, stop nothing that policy asks for.
	Observe bool
	Doctor  event.Doctor
	Kernel  Kernel
	Sensor  Sensor
	// Unguarded is why nothing is enforced or seen in this host's kernel; Kernel
	// and Sensor are then those of the type Unguarded. "": the kernel guards.
	Unguarded string
	Rules     *detect.Rules
	// Pressure is the folder where the kernel tells what the host is short of; "":
	// /proc/pressure.
	Pressure  string
	Uplink    Uplink
	Questions Questioner // nil: nobody asks
	// EventBytes bounds the events that are kept on disk; 0 is journal.DefaultBytes.
	EventBytes int64
	Log        *slog.Logger
}

// Agent guards one host. Make it with New, run it once with Run.
type Agent struct {
	opts       Options
	started    time.Time
	engines    *engines
	policies   *policies
	containers *containers
	images     *images
	scanner    *imageScanner
	detector   *detect.Engine
	indicators *indicators                   // that intelligence brought
	promotions *promotions                   // what of it is enforced
	brought    atomic.Pointer[detect.Engine] // detections that intelligence brought; they alert only
	excepted   *excepted
	looks      looks // at processes that are to be ended
	stories    *story.Keeper
	journal    *journal.Journal
	evidence   *evidence.Store
	toKeep     chan func(context.Context) error // of evidence
	spool      *spool.Spool
	pending    *pending
	settled    *settled
	resources  *resources
	left       []seen // by an earlier agent, unfinished

	unjudged  *queue                     // containers to judge, once a.ready is closed
	incidents chan seen                  // to the recorder
	work      chan func(context.Context) // slow work, off the sensor's goroutine
	beatNow   chan struct{}
	looking   looking
	offered   chan string // the newest intelligence bundle that the server has
	// fetched is closed after the first attempt to get a policy, ready when
	// what ran before is taken over too.
	fetched, ready chan struct{}

	mu       sync.Mutex
	problems map[string]string // by topic; what is wrong now
}

// New opens the agent's folder and puts the last good policy into the kernel.
func New(opts Options) (*Agent, error) {
	if err := os.MkdirAll(opts.Data, 0o750); err != nil {
		return nil, fmt.Errorf("agent folder: %w", err)
	}
	if err := ownFolder(opts.Data); err != nil {
		return nil, err
	}
	eng, err := openEngines(opts.Sockets)
	if err != nil {
		return nil, err
	}
	queue, err := spool.Open(filepath.Join(opts.Data, "spool"), spool.Options{})
	if err != nil {
		return nil, err
	}
	unfinished, err := openPending(opts.Data)
	if err != nil {
		return nil, errors.Join(err, queue.Close())
	}
	a := &Agent{
		opts: opts, started: time.Now().UTC(), engines: eng, spool: queue, pending: unfinished,
		incidents: make(chan seen, 4096), unjudged: newQueue(),
		policies: &policies{dir: opts.Data, agent: opts.ID},
		work:     make(chan func(context.Context), 1024),
		beatNow:  make(chan struct{}, 1),
		offered:  make(chan string, 1),
		looking:  looking{more: make(chan struct{}, 1)},
		fetched:  make(chan struct{}),
		ready:    make(chan struct{}),
		toKeep:   make(chan func(context.Context) error, maxToKeep),
		problems: map[string]string{}, looks: make(looks, 8),
		detector: detect.NewEngine(opts.Rules), indicators: &indicators{}, promotions: &promotions{},
	}
	a.resources, err = openResources(opts.Data)
	a.problem("resources", err)
	a.settled, err = openSettled(opts.Data)
	a.problem("judged containers", err)
	if a.journal, err = journal.Open(Journal(opts.Data), opts.EventBytes); err != nil {
		return nil, errors.Join(err, queue.Close(), unfinished.close())
	}
	if a.evidence, err = evidence.Open(filepath.Join(opts.Data, "evidence"), Journal(opts.Data), 0); err != nil {
		return nil, errors.Join(err, queue.Close(), unfinished.close(), a.journal.Close())
	}
	a.stories, err = story.Open(filepath.Join(opts.Data, "stories"))
	a.problem("stories", err)
	a.left, err = unfinished.left(context.Background())
	a.problem("unfinished", err)
	a.problem("policy", a.policies.load())
	a.excepted, err = openExcepted(opts.Data, a.policies)
	a.problem("exceptions", err)
	a.detector.Excepting(a.excepted.has)
	a.problem("VEX documents", a.policies.unreadable())
	a.containers = newContainers(opts.Kernel, eng, a.policies, a.promotions, opts.Host, opts.Observe, opts.Sensor.Reconsider)
	layers, err := scan.OpenCache(filepath.Join(opts.Data, "layers"), 0)
	a.problem("layers", err) // without it they are read again, no more
	a.scanner = &imageScanner{
		data: opts.Intel, tool: "breakwater " + opts.Version, cache: layers, policies: a.policies, clamd: opts.Malware, problem: a.problem,
		registry: image.NewRegistry(image.RegistryOptions{Keychain: true, CertDir: image.DockerCertDir}),
	}
	a.images = newImages(opts.Data, a.scanner, a.policies, opts.Host, a.publish)
	if len(a.policies.promotions()) > 0 { // before the kernel is given another default
		_, err := a.scanner.refresh(context.Background())
		a.problem("intelligence", err)
		a.problem("indicators", a.takeIndicators(context.Background()))
		_, err = a.promotions.set(a.policies.promotions(), a.indicators, time.Now())
		a.problem("promotions", err)
	}
	if err := a.prepareKernel(); err != nil {
		return nil, errors.Join(err, queue.Close(), unfinished.close(), a.journal.Close(), a.stories.Close())
	}
	return a, nil
}

// prepareKernel brings the kernel up to what is known: the default policy, the
// files and sockets to watch, and everything that runs already.
func (a *Agent) prepareKernel() error {
	k := a.opts.Kernel
	if err := k.SetDefault(a.containers.defaultRun()); err != nil {
		return fmt.Errorf("default policy: %w", err)
	}
	if err := k.Watch(a.opts.Rules.Watch()...); err != nil {
		return fmt.Errorf("watched files: %w", err)
	}
	a.problem("engine sockets", k.SetEngineSockets(a.opts.Sockets))
	a.problem("storage", k.SetStorage(a.engines.storage()))
	_, err := k.AdoptRunning()
	a.problem("adopt", err)
	return nil
}

// takeOver finds out what the containers are that the kernel knows already. One
// that an earlier agent had dealt with, or that ran before Breakwater did, was
// there before; one that appeared while no agent lived, or that the agent was
// killed before judging, is judged as if it appeared now.
func (a *Agent) takeOver(ctx context.Context) {
	known, err := a.opts.Kernel.Containers()
	a.problem("adopt", err)
	taken := make(chan struct{}, len(known))
	before := map[string]uint64{}
	for _, g := range known {
		adopted := a.opts.Fresh || a.settled.has(g.ID, g.CgroupID, !g.Default)
		if adopted {
			before[g.ID] = g.CgroupID
		}
		a.containers.mark(g.ID, g.CgroupID, adopted)
		a.later(ctx, func(ctx context.Context) {
			a.problem("container "+short(g.ID), ignoreUnknown(a.containers.appeared(ctx, g.ID)))
			taken <- struct{}{}
		})
		a.unjudged.add(g.ID)
	}
	a.problem("judged containers", a.settled.add(before))
	for _, s := range a.left {
		a.later(ctx, func(ctx context.Context) { a.finish(ctx, s) })
	}
	for range known {
		select {
		case <-taken:
		case <-ctx.Done():
			return
		}
	}
	a.problem("settle", a.opts.Kernel.Settle())
	select {
	case <-a.fetched:
		close(a.ready)
	case <-ctx.Done():
	}
}

// Ready is closed when the agent has taken over what runs, under the policy
// that the server had for it or, when that was away, the last good one.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Run guards the host until ctx ends. What is pinned in the kernel stays.
func (a *Agent) Run(ctx context.Context) error {
	defer a.spool.Close()
	defer func() { a.problem("incidents", errors.Join(a.pending.close(), a.stories.Close(), a.journal.Close())) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.keepIncidents(ctx) })
	group.Go(func() error { return a.keepEvidence(ctx) })
	group.Go(func() error { return a.cutEvidence(ctx) })
	group.Go(func() error { return a.opts.Sensor.Run(ctx, func(ev event.Event) bool { return a.handle(ctx, ev) }) })
	for _, d := range a.engines.docker {
		group.Go(func() error { return a.watchEngine(ctx, d) })
	}
	for range 4 {
		group.Go(func() error { return a.worker(ctx) })
	}
	for range 2 {
		group.Go(func() error { return a.keepJudging(ctx) })
	}
	group.Go(func() error { a.takeOver(ctx); return nil })
	group.Go(func() error { return serveGate(ctx, a.opts.Data, a.gateDesk()) })
	group.Go(func() error { return a.heartbeat(ctx) })
	group.Go(func() error { return a.keepIntelligence(ctx) })
	group.Go(func() error { return a.keepLooking(ctx) })
	if a.opts.Questions != nil {
		group.Go(func() error { return a.opts.Questions.Questions(ctx, a.answer) })
	}
	group.Go(func() error { return a.keepResources(ctx) })
	if a.opts.Uplink != nil {
		group.Go(func() error { return a.opts.Uplink.Uplink(ctx, a.spool) })
		group.Go(func() error { return a.keepPolicy(ctx) })
	} else {
		close(a.fetched)
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// worker carries out slow work: engine calls, scans, responses.
func (a *Agent) worker(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-a.work:
			job(ctx)
		}
	}
}

// later queues slow work; it waits when the queue is full, so nothing is lost.
func (a *Agent) later(ctx context.Context, job func(context.Context)) {
	select {
	case a.work <- job:
	case <-ctx.Done():
	}
}

// publish puts one record on the disk spool.
func (a *Agent) publish(ctx context.Context, kind api.RecordKind, key string, at time.Time, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, key, err)
	}
	_, err = a.spool.Append(ctx, kind, key, at, raw)
	return err
}

// keepIncidents is the recorder: it writes finished incidents to the spool, one
// after the other, and so keeps a full disk from holding up anything else.
func (a *Agent) keepIncidents(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil // what is unfinished comes back with the next agent
		case s := <-a.incidents:
			if a.record(ctx, s.incident) == nil {
				a.problem("unfinished", a.pending.finish(s))
			}
		}
	}
}

// record writes an incident to the spool. It waits for room on the disk until
// ctx ends; meanwhile that is a standing problem, which the heartbeat tells.
func (a *Agent) record(ctx context.Context, inc event.Incident) error {
	inc.Agent, inc.Host = a.opts.ID, a.opts.Host
	a.opts.Log.Info("incident", "title", inc.Title, "sentence", inc.Sentence, "outcome", inc.Decision.Outcome)
	waiting := time.AfterFunc(2*time.Second, func() {
		a.problem("disk", fmt.Errorf("incidents wait for room on the disk of %s: free some; enforcement goes on", a.opts.Data))
	})
	err := a.publish(ctx, api.RecordIncident, inc.Key, inc.Time, inc)
	if !waiting.Stop() && err == nil {
		a.problem("disk", nil)
	}
	if ctx.Err() == nil {
		a.problem("spool", err)
	}
	return err
}

// problem keeps or clears what is wrong on a topic.
func (a *Agent) problem(topic string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		delete(a.problems, topic)
		return
	}
	if a.problems[topic] != err.Error() {
		a.opts.Log.Warn("problem", "topic", topic, "error", err)
	}
	a.problems[topic] = err.Error()
}
