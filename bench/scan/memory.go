package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// watch samples the resident memory of a process and its descendants, 200
// times a second; the result stops it and gives the largest sum in KiB. Pages
// that two processes share count twice.
func watch(pid int) (peak func() int64) {
	stop, largest := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				largest <- most
				return
			case <-tick.C:
				most = max(most, resident(pid, 4))
			}
		}
	}()
	return func() int64 { close(stop); return <-largest }
}

// resident is the sum over the tree, to a bounded depth.
func resident(pid, depth int) (kib int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, after, ok := bytes.Cut(status, []byte("VmRSS:")); ok {
		if f := bytes.Fields(after); len(f) > 0 {
			kib, _ = strconv.ParseInt(string(f[0]), 10, 64)
		}
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || depth == 0 {
		return kib
	}
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, child := range bytes.Fields(children) {
			if n, err := strconv.Atoi(string(child)); err == nil {
				kib += resident(n, depth-1)
			}
		}
	}
	return kib
}
