package resource

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// PastPeriod is how far apart the measurements are that a Past takes: rates are
// means over it.
const PastPeriod = 5 * time.Minute

// day is how much a Past keeps, and how much it must know before it judges: what
// a container does once a day is ordinary.
const day = int(24 * time.Hour / PastPeriod)

// manifold is how many times the highest of a whole day counts as out of the
// ordinary.
const manifold = 3

// floor is what no container is remarkable for using, whatever it did before.
func floor(r policy.Resource) uint64 {
	switch r {
	case policy.ResourceCPU:
		return 500 // half a core
	case policy.ResourceMemory:
		return 512 << 20
	case policy.ResourcePIDs:
		return 200
	case policy.ResourceDiskWrites, policy.ResourceNetwork:
		return 5 << 20
	}
	return 1 << 62 // not judged
}

// Leap is far more than a container ever used within a day.
type Leap struct {
	Resource policy.Resource
	Used     uint64
	Highest  uint64 // of the day before
}

// Past is what one container used within the last day. It lives in memory: an
// agent that starts again learns again. The zero value is ready; it is not safe
// for concurrent use.
type Past struct {
	series map[policy.Resource]*series
}

type series struct {
	ring    [day]uint64
	n, next int
	held    []uint64 // measurements that leap, until that is told
}

// Take judges one measurement, PastPeriod after the one before. A leap is told
// once it lasted for three of them; from then on it is part of the past.
func (p *Past) Take(amounts map[policy.Resource]uint64) []Leap {
	if p.series == nil {
		p.series = map[policy.Resource]*series{}
	}
	var leaps []Leap
	for r, used := range amounts {
		s := p.series[r]
		if s == nil {
			s = &series{}
			p.series[r] = s
		}
		if highest, ok := s.leaps(used, floor(r)); ok {
			leaps = append(leaps, Leap{r, used, highest})
		}
	}
	return leaps
}

func (s *series) leaps(used, floor uint64) (highest uint64, ok bool) {
	for _, was := range s.ring[:s.n] {
		highest = max(highest, was)
	}
	if s.n == day && used > floor && used/manifold > highest {
		if s.held = append(s.held, used); len(s.held) < sustained {
			return highest, false
		}
		ok, used = true, s.held[0]
		s.held = s.held[1:]
	}
	for _, held := range append(s.held, used) {
		s.ring[s.next] = held
		s.next = (s.next + 1) % day
		s.n = min(s.n+1, day)
	}
	s.held = nil
	return highest, ok
}
