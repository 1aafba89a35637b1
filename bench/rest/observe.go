package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is the memory of a process, in bytes: resident, its proportional share
// of it, and what it alone has written.
type usage struct{ rss, pss, private int64 }

// observe watches a process for a while: the processor time that it took, and
// its memory at the end.
func observe(pid int, window time.Duration) (time.Duration, usage, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, usage{}, err
	}
	time.Sleep(window)
	after, err := cpuTime(pid)
	if err != nil {
		return 0, usage{}, err
	}
	m, err := memoryOf(pid)
	return after - before, m, err
}

// cpuTime is user and system time of all threads, from schedstat (nanoseconds):
// stat counts in ticks of 10 ms, too coarse for a process at rest.
func cpuTime(pid int) (time.Duration, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, fmt.Errorf("the agent is gone: %w", err)
	}
	var sum time.Duration
	for _, task := range tasks {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // a thread that ended
		}
		first, _, _ := strings.Cut(string(raw), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// memoryOf reads /proc/PID/smaps_rollup (proc_pid_smaps(5)).
func memoryOf(pid int) (usage, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, err
	}
	defer f.Close()
	var u usage
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return u, err
		}
		switch fields[0] {
		case "Rss:":
			u.rss = n << 10
		case "Pss:":
			u.pss = n << 10
		case "Private_Dirty:":
			u.private = n << 10
		}
	}
	return u, nil
}
