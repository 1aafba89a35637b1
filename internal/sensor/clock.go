package sensor

import (
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// wallOffset is the wall clock minus the clock that the programs read: TAI
// where the kernel gives it to them (6.1), else the time since boot.
func wallOffset() int64 {
	clock := int32(unix.CLOCK_BOOTTIME)
	if features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnKtimeGetTaiNs) == nil {
		clock = unix.CLOCK_TAI
	}
	return offsetOf(clock)
}

// offsetOf reads both clocks until no pause came in between.
func offsetOf(clock int32) int64 {
	var best, gap int64 = 0, 1 << 62
	for range 8 {
		a, real, b := readClock(clock), readClock(unix.CLOCK_REALTIME), readClock(clock)
		if b-a < gap {
			best, gap = real-(a+b)/2, b-a
		}
	}
	return best
}

func readClock(clock int32) int64 {
	var ts unix.Timespec
	if unix.ClockGettime(clock, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

// clockAge is how old the offset between two clocks may be: a wall clock that
// was set shows in events within this time.
const clockAge = 100 * time.Millisecond

// wallClock turns the programs' times into the time of day. Asking the kernel
// for each event would cost more than the rest of it. Not safe for concurrent
// use.
type wallClock struct {
	offset int64
	asked  time.Time
}

func (c *wallClock) at(boot uint64) time.Time {
	if now := time.Now(); now.Sub(c.asked) > clockAge {
		c.offset, c.asked = offsetOf(unix.CLOCK_BOOTTIME), now
	}
	return time.Unix(0, int64(boot)+c.offset)
}

// wallTime turns nanoseconds since boot into the time of day.
func wallTime(boot uint64) time.Time {
	ago := readClock(unix.CLOCK_BOOTTIME) - int64(boot)
	return time.Now().Add(-time.Duration(ago)).Round(0)
}
