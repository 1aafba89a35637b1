package resource

import (
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// sustained is how many measurements in a row must agree: peaks are ordinary.
const sustained = 3

// Excess is more than a limit for longer.
type Excess struct {
	Limit policy.Limit
	Used  uint64 // at the last measurement
}

// Judge holds the measurements of one container against limits. The zero value
// is ready; it is not safe for concurrent use.
type Judge struct {
	states map[policy.Resource]*state
}

// state is one resource of one container.
type state struct {
	limit       policy.Limit
	over, below int // measurements in a row
	told        bool
}

// Take judges one measurement. An excess is told once, when it lasted, and
// again only after the use was below the limit for as long.
func (j *Judge) Take(amounts map[policy.Resource]uint64, limits []policy.Limit) []Excess {
	states := map[policy.Resource]*state{}
	var told []Excess
	for _, l := range limits {
		s := j.states[l.Resource]
		if s == nil || s.limit != l {
			s = &state{limit: l}
		}
		states[l.Resource] = s
		used, known := amounts[l.Resource]
		if known && s.take(used) {
			told = append(told, Excess{l, used})
		}
	}
	j.states = states
	return told
}

func (s *state) take(used uint64) (tell bool) {
	if used > s.limit.Most {
		s.over, s.below = s.over+1, 0
	} else {
		s.over, s.below = 0, s.below+1
	}
	if s.below >= sustained {
		s.told = false
	}
	if s.over < sustained || s.told {
		return false
	}
	s.told = true
	return true
}
