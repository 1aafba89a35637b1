package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/resource"
)

// samplePeriod is how often containers are measured. Three measurements in a
// row decide, so what lasts for a quarter of a minute is found, and measuring
// fifty containers stays far below a hundredth of a core.
const samplePeriod = 5 * time.Second

// resources is what the agent measures containers with, and holds them to
// limits by.
type resources struct {
	groups   *resource.Cgroups
	throttle *resource.Throttle

	mu     sync.Mutex
	paused map[string]bool // containers that were paused since they were measured last
}

// openResources gives nil where nothing can be measured. An error beside a
// value is no reason not to go on with it.
func openResources(dir string) (*resources, error) {
	groups, err := resource.OpenCgroups()
	if err != nil {
		return nil, err
	}
	throttle, err := resource.OpenThrottle(groups, filepath.Join(dir, resource.ThrottleFile))
	return &resources{groups: groups, throttle: throttle, paused: map[string]bool{}}, err
}

// carryOut does what an incident wants done, and records that.
func (a *Agent) carryOut(ctx context.Context, inc *event.Incident) {
	a.throttle(inc)
	respond(ctx, inc, a.engines)
	if a.resources == nil || inc.Container == nil {
		return
	}
	for _, r := range inc.Responses {
		if r.Effect == event.EffectPause && r.Done {
			a.resources.mu.Lock()
			a.resources.paused[inc.Container.ID] = true
			a.resources.mu.Unlock()
		}
	}
}

// takePaused gives the containers that were paused since the call before.
func (r *resources) takePaused() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.paused
	r.paused = map[string]bool{}
	return taken
}

// measured is what is known of one container's use. Owned by keepResources.
type measured struct {
	last              resource.Use
	enforced, audited resource.Judge
	past              resource.Past
	before            resource.Use // the measurement that past took last
}

// keepResources measures running containers and the host until ctx ends, and
// tells what is above policy, far above a container's own past, or what the
// host is short of.
func (a *Agent) keepResources(ctx context.Context) error {
	select {
	case <-a.ready: // before, no policy is known and every throttle would be lifted
	case <-ctx.Done():
		return nil
	}
	if a.resources == nil {
		return nil
	}
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	host := pressureKeeper{}
	known := map[string]*measured{}
	for {
		ids := a.containers.runningIDs(a.opts.Own)
		known = keepOnly(known, ids)
		used := a.measure(ctx, ids, known)
		a.liftThrottles(ctx, ids)
		a.hostPressure(ctx, &host, used)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func keepOnly(known map[string]*measured, ids []string) map[string]*measured {
	kept := make(map[string]*measured, len(ids))
	for _, id := range ids {
		if kept[id] = known[id]; kept[id] == nil {
			kept[id] = &measured{}
		}
	}
	return kept
}

// runningIDs lists what runs, but for one container.
func (c *containers) runningIDs(but string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.byID)) {
		if c.byID[id].running && id != but {
			ids = append(ids, id)
		}
	}
	return ids
}

// measure reads and judges every container; it gives what each uses now.
func (a *Agent) measure(ctx context.Context, ids []string, known map[string]*measured) map[string]map[policy.Resource]uint64 {
	used := map[string]map[policy.Resource]uint64{}
	a.resources.groups.Find(ids)
	paused := a.resources.takePaused()
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		m := known[id]
		container, run := a.containers.peek(id)
		limits := [][]policy.Limit{run.Resources.Limits}
		if run.Audited != nil {
			limits = append(limits, run.Audited.Resources.Limits)
		}
		whole := time.Since(m.before.At) >= resource.PastPeriod
		use, err := a.resources.groups.Read(id, wanted(limits, whole))
		if err != nil {
			continue // it is gone, or stands where this agent does not see it
		}
		used[id] = use.Amounts(m.last)
		m.last = use
		if use.Frozen || paused[id] { // once it goes on, it is judged anew
			m.enforced, m.audited = resource.Judge{}, resource.Judge{}
		}
		if use.Frozen {
			continue
		}
		if container.ID == "" {
			container.ID = id
		}
		for _, x := range m.enforced.Take(used[id], run.Resources.Limits) {
			a.tellExcess(ctx, container, x, run.Generation, run.Resources.Audit)
		}
		if run.Audited != nil {
			for _, x := range m.audited.Take(used[id], run.Audited.Resources.Limits) {
				a.tellExcess(ctx, container, x, run.Generation, true)
			}
		}
		if whole && !container.Build {
			a.judgePast(ctx, container, m, use)
		}
	}
	return used
}

// wanted is what is to be read for the limits. whole: all that a past knows.
func wanted(limits [][]policy.Limit, whole bool) resource.Want {
	w := resource.Want{MemoryAbove: 1 << 62}
	for _, l := range slices.Concat(limits...) {
		switch l.Resource {
		case policy.ResourceFiles:
			w.Files = true
		case policy.ResourceMemory:
			w.MemoryAbove = min(w.MemoryAbove, l.Most)
		}
	}
	if whole {
		w.MemoryAbove = 0
	}
	return w
}

// judgePast holds the mean of the last period against the day before it.
func (a *Agent) judgePast(ctx context.Context, c event.Container, m *measured, use resource.Use) {
	if !m.before.At.IsZero() {
		for _, leap := range m.past.Take(use.Amounts(m.before)) {
			used, before := amount(leap.Resource, leap.Used), amount(leap.Resource, leap.Highest)
			inc := resourceIncident(c, event.ResourceUse{Resource: string(leap.Resource), Used: leap.Used, Before: leap.Highest})
			inc.Title, inc.Severity, inc.Detection = "Far more than ever", event.SeverityLow, "resource-leap"
			inc.Sentence = fmt.Sprintf("%s has used %s for a quarter of an hour; within the day before it never used more than %s.", named(c), used, before)
			inc.Decision = event.Decision{Control: event.ControlResources, Effect: event.EffectAlert, Outcome: event.Detected, Rule: inc.Detection,
				Why: "What a container uses far beyond its own past may be somebody else's work: miners, floods, copies of data. To hold it, set a limit in run.resources."}
			a.tellResource(ctx, inc)
		}
	}
	m.before = use
}

func (a *Agent) tellExcess(ctx context.Context, c event.Container, x resource.Excess, generation uint64, audit bool) {
	l := x.Limit
	inc := resourceIncident(c, event.ResourceUse{Resource: string(l.Resource), Used: x.Used, Limit: l.Most})
	inc.Title, inc.Severity = "More than policy allows", event.SeverityMedium
	if l.Resource == policy.ResourceCPU {
		inc.Attack = []string{"T1496"} // Resource Hijacking
	}
	inc.Sentence = fmt.Sprintf("%s used %s for longer; policy allows %s.", named(c), amount(l.Resource, x.Used), amount(l.Resource, l.Most))
	inc.Decision = event.Decision{Control: event.ControlResources, Effect: l.Effect, Outcome: event.Detected, Why: inc.Sentence,
		Policy: l.Policy, Generation: generation, Rule: l.Source, Audit: audit}
	a.tellResource(ctx, inc)
}

// resourceIncident is an incident without its words.
func resourceIncident(c event.Container, use event.ResourceUse) event.Incident {
	now := time.Now().UTC()
	key := fmt.Sprintf("resource/%s/%s/%d", c.ID, use.Resource, now.UnixNano())
	return event.Incident{Key: key, Time: now, Container: &c,
		Event: event.Event{Key: key, Kind: event.KindResource, Time: now, Container: &c, Resource: &use}}
}

func (a *Agent) tellResource(ctx context.Context, inc event.Incident) {
	inc.Host, inc.Event.Host = a.opts.Host, a.opts.Host
	a.tell(ctx, inc.Event, []event.Incident{inc}, nil)
}

func named(c event.Container) string {
	if c.Name != "" {
		return "`" + c.Name + "`"
	}
	return "`" + short(c.ID) + "`"
}

// amount is a number of a resource in words.
func amount(r policy.Resource, n uint64) string {
	switch r {
	case policy.ResourceCPU:
		return fmt.Sprintf("%.3g processor cores", float64(n)/1000)
	case policy.ResourceMemory:
		return sized(n) + " of memory"
	case policy.ResourcePIDs:
		return fmt.Sprintf("%d processes and threads", n)
	case policy.ResourceFiles:
		return fmt.Sprintf("%d open descriptors", n)
	case policy.ResourceDiskWrites:
		return sized(n) + " a second of disk writes"
	}
	return sized(n) + " a second of network traffic"
}

func sized(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	x, i := float64(n), 0
	for ; x >= 1024 && i < len(units)-1; i++ {
		x /= 1024
	}
	return fmt.Sprintf("%.4g %s", x, units[i])
}

// throttle holds the incident's container to the limit that it broke, and
// records that.
func (a *Agent) throttle(inc *event.Incident) {
	use := inc.Event.Resource
	if inc.Decision.Effect != event.EffectThrottle || inc.Decision.Audit || use == nil || inc.Container == nil {
		return
	}
	r := event.Response{Effect: event.EffectThrottle, Time: time.Now().UTC()}
	err := errors.New("this host's control groups cannot be used")
	if a.resources != nil {
		_, run := a.containers.peek(inc.Container.ID)
		limit, ok := run.Resources.Limit(policy.Resource(use.Resource))
		if err = errors.New("policy no longer wants it"); ok && limit.Effect == event.EffectThrottle && !run.Resources.Audit {
			r.Message, err = a.resources.throttle.Set(inc.Container.ID, limit, run.Generation)
		}
	}
	if r.Done = err == nil; err != nil {
		r.Message = err.Error()
	} else {
		inc.Decision.Mechanism = "cgroup"
	}
	inc.Responses = append(inc.Responses, r)
}

// liftThrottles gives containers back what policy no longer takes from them.
func (a *Agent) liftThrottles(ctx context.Context, running []string) {
	for _, h := range a.resources.throttle.Held() {
		container, run := a.containers.peek(h.Container)
		runs := slices.Contains(running, h.Container)
		limit, ok := run.Resources.Limit(h.Resource)
		if runs && ok && limit.Effect == event.EffectThrottle && limit.Most == h.Most && !run.Resources.Audit {
			continue
		}
		if runs && run.Generation == h.Generation && !a.containers.isKnown(h.Container) {
			continue // its engine is away: which policies are its own is to be seen
		}
		err := a.resources.throttle.Lift(h.Container, h.Resource)
		a.problem("throttle "+short(h.Container), err)
		if err == nil && runs {
			a.emit(ctx, a.resourceNotice(event.NoticeThrottleLifted, h.Container+"/"+string(h.Resource), &container,
				fmt.Sprintf("%s is no longer held to %s: policy does not want it any more.", named(container), amount(h.Resource, h.Most))))
		}
	}
}

func (a *Agent) resourceNotice(code, what string, c *event.Container, message string) event.Event {
	now := time.Now().UTC()
	return event.Event{Key: fmt.Sprintf("%s/%s/%s/%d", code, a.opts.Host, what, now.UnixNano()), Kind: event.KindAgent, Time: now, Host: a.opts.Host,
		Container: c, Notice: &event.Notice{Code: code, Message: message}}
}

// pressureKeeper is what is known of the host's pressure.
type pressureKeeper struct {
	judge resource.HostJudge
	off   bool // the kernel does not tell
}

// hostPressure tells what the host is short of, and which container causes it.
func (a *Agent) hostPressure(ctx context.Context, k *pressureKeeper, used map[string]map[policy.Resource]uint64) {
	if k.off {
		return
	}
	all, err := resource.ReadPressure(cmp.Or(a.opts.Pressure, resource.PressureFolder))
	if errors.Is(err, resource.ErrNoPressure) {
		k.off = true
		a.emit(ctx, a.resourceNotice(event.NoticeNoPressure, "", nil, "Pressure on this host is not watched: "+err.Error()+"."))
		return
	}
	if a.problem("pressure", err); err != nil {
		return
	}
	for _, p := range k.judge.Take(all) {
		a.tellPressure(ctx, p, used)
	}
}

func (a *Agent) tellPressure(ctx context.Context, p resource.Pressure, used map[string]map[policy.Resource]uint64) {
	what := map[policy.Resource]string{policy.ResourceCPU: "processor time", policy.ResourceMemory: "memory", policy.ResourceDiskWrites: "disk throughput"}[p.Resource]
	waited := fmt.Sprintf("The host is short of %s: for %.0f %% of the last ten seconds programs waited for it", what, p.Percent)
	id, most := resource.Cause(p.Resource, capacity(p.Resource), used)
	if id == "" {
		a.emit(ctx, a.resourceNotice(event.NoticePressure, string(p.Resource), nil, waited+". No container stands out: look at the host's own programs."))
		return
	}
	container, _ := a.containers.peek(id)
	container.ID = id
	inc := resourceIncident(container, event.ResourceUse{Resource: string(p.Resource), Used: most, Pressure: p.Percent})
	inc.Key, inc.Title, inc.Severity, inc.Detection = "pressure/"+inc.Key, "A container presses on its host", event.SeverityLow, "host-pressure"
	inc.Event.Key = inc.Key
	inc.Sentence = fmt.Sprintf("%s, and %s uses most of it: %s.", waited, named(container), amount(p.Resource, most))
	inc.Decision = event.Decision{Control: event.ControlResources, Effect: event.EffectAlert, Outcome: event.Detected, Rule: inc.Detection,
		Why: "Everything else on the host waits. To hold the container, set a limit in run.resources."}
	a.tellResource(ctx, inc)
}

// capacity is how much of a resource the host has; 0 when nobody knows.
func capacity(r policy.Resource) uint64 {
	switch r {
	case policy.ResourceCPU:
		return uint64(runtime.NumCPU()) * 1000
	case policy.ResourceMemory:
		var info unix.Sysinfo_t
		if unix.Sysinfo(&info) == nil {
			return uint64(info.Totalram) * uint64(info.Unit)
		}
	}
	return 0
}
