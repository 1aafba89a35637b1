package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// atRest is how long after its start a guard counts as at rest.
const atRest = 15 * time.Second

// rest gives back, once the start is over, what only the start needed: its
// garbage, and the pages of the program that it ran through, which stay in the
// page cache and come back when they are used. A garbage collector that waits
// for half as much new memory suits a program that makes little.
func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(atRest):
	}
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // nothing is lost but memory
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range untouched(maps, program) {
		// DONTNEED is safe only because nobody ever wrote there.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// untouched lists the mappings of a file (proc_pid_smaps(5)) that cannot be
// written and of which no page was ever changed.
func untouched(smaps io.Reader, file string) []mapping {
	var list []mapping
	var m mapping
	candidate := false
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 6 && strings.Contains(fields[0], "-") {
			_, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to)
			candidate = err == nil && fields[5] == file && !strings.Contains(fields[1], "w")
			continue
		}
		if candidate && len(fields) == 3 && fields[0] == "Anonymous:" && fields[1] == "0" {
			list = append(list, m)
		}
	}
	return list
}
