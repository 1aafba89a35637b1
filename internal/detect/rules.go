// Package detect turns events into incidents: by detections, which are data in
// content/detections, and by the decisions that the kernel took for policies.
package detect

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Rule is one detection. It never changes.
type Rule struct {
	ID          string
	Title       string
	Severity    event.Severity
	Description string       // what it means and what to do, for people
	Attack      []string     // ATT&CK technique ids
	Kinds       []event.Kind // the events it looks at
	Effect      event.Effect // wanted unless policy says otherwise
	AlwaysOn    bool         // lifted by a waiver only
	Kernel      string       // the mechanism that acts in the kernel already; "" = none
	Watch       []string     // files whose opening must become an event
	Programs    []string     // names of the programs that it is asked about; none: of all
	// Control is exec or network: what a policy said about programs, or about
	// peers, tells of the same act, and the detection is silent where it did.
	Control event.Control
	Count   *Count // what it wants of several events; nil: it speaks of each
	Source  string // file:line

	when     *condition.Condition
	sentence template
	fire     []example
	quiet    []example
}

// When is the CEL text of the condition.
func (r *Rule) When() string { return r.when.Text }

// Rules is all loaded detections, indexed by the kind of event they look at.
// It never changes and is safe for concurrent use.
type Rules struct {
	byID   map[string]*Rule
	byKind map[event.Kind]*kindRules
	cost   map[event.Kind]uint64 // of one event, at most
}

// kindRules are the rules that look at one kind of events: those that are asked
// about every program, and by name those that are asked about some only, so
// that a detection costs nothing on programs that it does not speak of.
type kindRules struct {
	always []*Rule
	named  map[string][]*Rule
}

func (k *kindRules) add(r *Rule) {
	if len(r.Programs) == 0 {
		k.always = append(k.always, r)
	}
	for _, name := range r.Programs {
		k.named[name] = append(k.named[name], r)
	}
}

// asked lists the rules that an event is to be held against, each once.
func (k *kindRules) asked(ev event.Event) []*Rule {
	if k == nil {
		return nil
	}
	if len(k.named) == 0 {
		return k.always
	}
	list := k.always[:len(k.always):len(k.always)]
	for _, name := range programNames(ev) {
		for _, r := range k.named[name] {
			if !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	return list
}

// programNames are those that the event's program goes by: of its file, of its
// script, and the one that it was called by, which tells what a program of many
// names (busybox) was asked to be; each also without a version at its end
// (python3.11: python).
func programNames(ev event.Event) []string {
	var list []string
	add := func(name string) {
		name = name[strings.LastIndexByte(name, '/')+1:]
		for _, n := range []string{name, strings.TrimRight(name, "0123456789.-_")} {
			if n != "" && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	if ev.Exec != nil {
		add(ev.Exec.Path)
		add(ev.Exec.Script)
	}
	if ev.Process != nil {
		add(ev.Process.Path)
		add(ev.Process.Comm)
	}
	return list
}

// The bounds of a folder of detections.
const (
	maxRules    = 1_000
	maxPrograms = 200
	maxExamples = 100
	maxWatched  = 200
)

// The bounds of work for one event, in the units of condition.Budget: of one
// detection, and of all that look at a kind of events together. The built-in
// ones together stay below a tenth of the second, were every path as long as paths get.
const (
	maxRuleCost = 100_000
	maxKindCost = 1_000_000
	maxText     = 4096 // PATH_MAX of Linux; nothing else in an event is longer
	maxItems    = 64   // arguments are at most 384 bytes together
)

// Load reads every *.yaml of a folder. The error holds every mistake with
// file, line and column. It does not try the examples: see Check.
func Load(files fs.FS) (*Rules, error) {
	rules, errs := load(files, condition.Budget{Cost: maxRuleCost})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return rules, nil
}

// LoadRight reads as Load does and leaves out each file that holds a mistake:
// one error for each of them. The rules are nil when no file could be looked for.
//
// It is for detections that nobody here tried: what one may cost is estimated from
// the longest values that an event can have, and one that may cost too much is a
// mistake. All are ended while they run when they do.
func LoadRight(files fs.FS) (*Rules, []error) {
	return load(files, condition.Budget{Cost: maxRuleCost, Text: maxText, Items: maxItems})
}

func load(files fs.FS, budget condition.Budget) (*Rules, []error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil || len(names) == 0 {
		return nil, []error{errors.Join(errors.New("detections: no *.yaml file"), err)}
	}
	env, err := newEnv(budget)
	if err != nil {
		return nil, []error{err}
	}
	rules := &Rules{byID: map[string]*Rule{}, byKind: map[event.Kind]*kindRules{}, cost: map[event.Kind]uint64{}}
	var errs []error
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err == nil {
			err = rules.add(env, name, data)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return rules, errs
}

// add takes up the detections of one file: all or none.
func (rs *Rules) add(env *condition.Env, name string, data []byte) error {
	docs, err := document.Parse(name, data)
	if err != nil {
		return err
	}
	reader := document.NewReader(name)
	list, ids, cost := []*Rule{}, map[string]string{}, maps.Clone(rs.cost)
	for _, doc := range docs {
		at := reader.Value(doc)
		rule := parseRule(at, env)
		first := ids[rule.ID]
		if known := rs.byID[rule.ID]; known != nil {
			first = known.Source
		}
		if first != "" {
			at.Fail("the id %q is taken by %s", rule.ID, first)
			continue
		}
		ids[rule.ID] = rule.Source
		list = append(list, rule)
		rule.charge(at, cost)
	}
	if len(rs.byID)+len(list) > maxRules {
		return fmt.Errorf("%s: with its detections there are %d; at most %d are loaded", name, len(rs.byID)+len(list), maxRules)
	}
	if err := reader.Err(); err != nil {
		return err
	}
	rs.cost = cost
	for _, rule := range list {
		rs.byID[rule.ID] = rule
		for _, kind := range rule.Kinds {
			if rs.byKind[kind] == nil {
				rs.byKind[kind] = &kindRules{named: map[string][]*Rule{}}
			}
			rs.byKind[kind].add(rule)
		}
	}
	return nil
}

// charge adds what the rule may cost to the account of each kind of events.
func (r *Rule) charge(at document.Value, cost map[event.Kind]uint64) {
	if r.when == nil {
		return
	}
	for _, kind := range r.Kinds {
		if cost[kind] += r.when.Cost; cost[kind] > maxKindCost {
			at.Fail("with it, the detections that look at %s may cost %d units of work for one event, more than %d", kind, cost[kind], maxKindCost)
			return
		}
	}
}

// All lists the detections by id.
func (rs *Rules) All() []*Rule {
	ids := slices.Sorted(maps.Keys(rs.byID))
	list := make([]*Rule, len(ids))
	for i, id := range ids {
		list[i] = rs.byID[id]
	}
	return list
}

// Known maps every id to whether the detection is always on, as
// policy.CheckDetections wants it.
func (rs *Rules) Known() map[string]bool {
	known := make(map[string]bool, len(rs.byID))
	for id, r := range rs.byID {
		known[id] = r.AlwaysOn
	}
	return known
}

// Watch lists the files whose opening inside a container must become an event:
// exact paths, and patterns that end in "/*" or "/**"; sorted, each once.
func (rs *Rules) Watch() []string {
	var paths []string
	for _, r := range rs.byID {
		paths = append(paths, r.Watch...)
	}
	sort.Strings(paths)
	return slices.Compact(paths)
}

// Check tries every rule on its own examples. A rule that does not fire where
// it must, or fires where it must not, is an error that names the example.
func (rs *Rules) Check() error {
	var errs []error
	for _, r := range rs.All() {
		if len(r.fire) == 0 || len(r.quiet) == 0 {
			errs = append(errs, fmt.Errorf("%s: %s has no mustFire or no mustNotFire event", r.Source, r.ID))
		}
		for _, x := range r.fire {
			if fired, err := r.matches(x); err != nil || !fired {
				errs = append(errs, fmt.Errorf("%s: %s does not fire on this event (%v)", x.source, r.ID, err))
			}
		}
		for _, x := range r.quiet {
			if fired, err := r.matches(x); err != nil || fired {
				errs = append(errs, fmt.Errorf("%s: %s must not fire on this event (%v)", x.source, r.ID, err))
			}
		}
	}
	return errors.Join(errs...)
}

// speaksOf says whether the rule is asked about the event's program.
func (r *Rule) speaksOf(ev event.Event) bool {
	return len(r.Programs) == 0 || slices.ContainsFunc(programNames(ev), func(name string) bool { return slices.Contains(r.Programs, name) })
}

// toldBy says whether a decision by a policy tells of the act already.
func (r *Rule) toldBy(d *event.Decision) bool {
	if d == nil || r.Control == "" {
		return false
	}
	switch d.Control {
	case event.ControlExec, event.ControlDrift, event.ControlFileless:
		return r.Control == event.ControlExec
	default:
		return r.Control == d.Control
	}
}

// matches says whether the rule fires on one of an example's events.
func (r *Rule) matches(x example) (bool, error) {
	counts := newCounts()
	for ev := range x.events {
		if !slices.Contains(r.Kinds, ev.Kind) || !r.speaksOf(ev) {
			continue
		}
		fired, err := r.when.Eval(variables(ev))
		if err != nil || fired && (r.Count == nil || counts.reached(r, ev)) {
			return fired, err
		}
	}
	return false, nil
}

// newEnv declares what conditions may read. All of it is always there: what an
// event does not have reads as empty.
func newEnv(budget condition.Budget) (*condition.Env, error) {
	env, err := condition.NewEnv(map[string]any{
		"kind": "", "host": "",
		"container": event.Container{}, "process": event.Process{},
		"fork": event.Fork{}, "exec": event.Exec{}, "exit": event.Exit{}, "file": event.File{}, "network": event.Network{},
		"privilege": event.Privilege{}, "dns": event.Question{},
	})
	if err != nil {
		return nil, err
	}
	return env.Within(budget), nil
}

func variables(ev event.Event) map[string]any {
	return map[string]any{
		"kind": string(ev.Kind), "host": ev.Host,
		"container": orEmpty(ev.Container), "process": orEmpty(ev.Process),
		"fork": orEmpty(ev.Fork), "exec": orEmpty(ev.Exec), "exit": orEmpty(ev.Exit), "file": orEmpty(ev.File), "network": orEmpty(ev.Network),
		"privilege": orEmpty(ev.Privilege), "dns": orEmpty(ev.DNS),
	}
}

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// Watches says whether a detection looks at a kind of events for itself: what the
// kernel decided by one is told in any case.
func (rs *Rules) Watches(kind event.Kind) bool {
	k := rs.byKind[kind]
	return k != nil && (len(k.named) > 0 || slices.ContainsFunc(k.always, func(r *Rule) bool { return r.Kernel == "" }))
}

// kernelMechanisms are those that a rule may name as acting in the kernel.
func kernelMechanisms() []string {
	return []string{"reverse_shell", "release_agent_write", "core_pattern_write", "engine_socket", "miner_handshake", "kernel_helper", "kernel_module", "bpf", "file_handle", "block_device", "fork_bomb"}
}

func eventKinds() []string {
	return []string{
		string(event.KindExec), string(event.KindExit), string(event.KindFork), string(event.KindFileOpen),
		string(event.KindConnect), string(event.KindFlow), string(event.KindSocket), string(event.KindContainer),
		string(event.KindPrivilege), string(event.KindListen), string(event.KindDNS),
	}
}
