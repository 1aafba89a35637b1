package policy

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Resource is something that a container uses up. The names are those of the
// fields of run.resources.
type Resource string

// The resources. What a limit of each counts is said at Limit.Most.
const (
	ResourceCPU        Resource = "cpu"
	ResourceMemory     Resource = "memory"
	ResourcePIDs       Resource = "pids"
	ResourceFiles      Resource = "files"
	ResourceDiskWrites Resource = "diskWrites"
	ResourceNetwork    Resource = "network"
)

// Resources says how much a container may use, sorted by resource.
type Resources struct {
	Audit  bool
	Limits []Limit
}

// Limit is how much of one resource a container may use for longer.
type Limit struct {
	Resource Resource
	// Most in thousandths of a core (cpu), bytes (memory), tasks (pids), open
	// descriptors (files), or bytes a second (diskWrites; network, both ways).
	Most   uint64
	Effect event.Effect // alert, throttle, pause or stop
	Policy string       // whose limit it is
	Source string       // file:line
}

// Limit of a resource, if there is one.
func (r Resources) Limit(of Resource) (Limit, bool) {
	i := slices.IndexFunc(r.Limits, func(l Limit) bool { return l.Resource == of })
	if i < 0 {
		return Limit{}, false
	}
	return r.Limits[i], true
}

// Throttles says whether a cgroup can hold a container to less of the resource.
func (r Resource) Throttles() bool {
	return r != ResourceFiles && r != ResourceNetwork
}

func (s *runSection) parseResources(v document.Value) {
	effect := event.EffectAlert
	limit := func(r Resource, read func(document.Value) uint64) func(document.Value) {
		return func(v document.Value) {
			s.resources.Limits = append(s.resources.Limits, Limit{Resource: r, Most: read(v), Source: v.Source()})
		}
	}
	v.Map(document.Fields{
		"cpu":        limit(ResourceCPU, parseCores),
		"memory":     limit(ResourceMemory, parseBytes),
		"pids":       limit(ResourcePIDs, parseCount),
		"files":      limit(ResourceFiles, parseCount),
		"diskWrites": limit(ResourceDiskWrites, parseBytes),
		"network":    limit(ResourceNetwork, parseBytes),
		"effect": func(v document.Value) {
			effect = parseEffect(v, event.EffectAlert, event.EffectThrottle, event.EffectPause, event.EffectStop)
		},
	})
	if len(s.resources.Limits) == 0 && v.Has("effect") {
		v.Fail("has an effect, but no limit that it could be the effect of: cpu, memory, pids, files, diskWrites or network")
	}
	for i, l := range s.resources.Limits {
		s.resources.Limits[i].Effect = effect
		if effect == event.EffectThrottle && !l.Resource.Throttles() {
			v.Fail("no mechanism throttles %s: put it into a policy of its own, with alert, pause or stop", l.Resource)
		}
	}
}

// parseCores reads processor cores with at most three decimals, as thousandths.
func parseCores(v document.Value) uint64 {
	const most = 8192 // NR_CPUS of Linux on x86-64 at its largest (MAXSMP)
	cores, err := strconv.ParseFloat(v.Text, 64)
	milli := math.Round(cores * 1000)
	if v.Kind != document.Number || err != nil || !(cores > 0 && cores <= most) || math.Abs(milli-cores*1000) > 1e-6 {
		v.Fail("is not a number of processor cores from 0.001 to %d: write it as 2, or 0.5", most)
		return 1
	}
	return uint64(milli)
}

// maxCount is the most tasks that Linux has at a time on 64 bits (PID_MAX_LIMIT
// of include/linux/threads.h), and far more descriptors than a container needs.
const maxCount = 4 << 20

func parseCount(v document.Value) uint64 { return uint64(v.Int(1, maxCount)) }

var quantity = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]{1,15})(Ki|Mi|Gi)?$`) })

// parseBytes reads a number of bytes, alone or with Ki, Mi or Gi.
func parseBytes(v document.Value) uint64 {
	m := quantity().FindStringSubmatch(v.Text)
	if m == nil || v.Kind != document.Number && v.Kind != document.String {
		v.Fail("is not a number of bytes: write it as 1048576, 512Ki, 512Mi or 2Gi")
		return 1
	}
	n, _ := strconv.ParseUint(m[1], 10, 64) // 15 digits fit
	shift := map[string]int{"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[m[2]]
	const most = uint64(1) << 50
	if n == 0 || n > most>>shift {
		v.Fail("%q is not from 1 byte to 1048576Gi", v.Text)
		return 1
	}
	return n << shift
}

// resources merges limits: of each resource the smaller one counts, with the
// strictest effect that any policy has for it.
func (m *merger) resources(p *Policy) {
	have := &m.run.Resources
	have.Audit = m.audit
	for _, add := range p.run.resources.Limits {
		add.Policy = p.Name
		i := slices.IndexFunc(have.Limits, func(l Limit) bool { return l.Resource == add.Resource })
		if i < 0 {
			have.Limits = append(have.Limits, add)
			continue
		}
		effect := strictest(have.Limits[i].Effect, add.Effect)
		if add.Most < have.Limits[i].Most {
			have.Limits[i] = add
		}
		have.Limits[i].Effect = effect
	}
	slices.SortFunc(have.Limits, func(a, b Limit) int { return strings.Compare(string(a.Resource), string(b.Resource)) })
}
