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

// wallTime turns nanoseconds since boot into the time of day.
func wallTime(boot uint64) time.Time {
	ago := readClock(unix.CLOCK_BOOTTIME) - int64(boot)
	return time.Now().Add(-time.Duration(ago)).Round(0)
}
