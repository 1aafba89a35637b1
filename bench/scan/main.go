// Command scan measures `breakwater scan` on a large archive against a floor:
// a plain single pass over the same file that only finds and reads package
// files. Both run as whole processes, interleaved.
//
//	go run ./bench/scan -breakwater BINARY [-floor PROGRAM] [-runs 7] [-mb 750]
//
// The archive is generated with fixed content in a temporary folder: eight
// layers with a Debian status file that grows, 2,600 npm packages, 20,000
// small files, Go programs (the binary under test itself) and filler.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		floor(os.Args[2])
		return
	}
	binary := flag.String("breakwater", "", "the binary to measure")
	other := flag.String("floor", "", "another program to use as the floor, called with the archive's path")
	runs := flag.Int("runs", 7, "runs of each")
	size := flag.Int("mb", 750, "size of the archive in MB")
	flag.Parse()
	if err := bench(*binary, *other, *runs, *size); err != nil {
		fmt.Fprintln(os.Stderr, "bench/scan:", err)
		os.Exit(1)
	}
}

// contender is one program with its measurements.
type contender struct {
	name string
	args []string
	cpu  []time.Duration
	wall []time.Duration
	rss  []int64 // KiB, of all processes of the contender together, at most
}

func bench(binary, other string, runs, size int) error {
	if binary == "" || runs < 1 || size < 1 {
		return fmt.Errorf("name the binary with -breakwater; runs and mb are at least 1")
	}
	dir, err := os.MkdirTemp("", "breakwater-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "image.tar")
	if err := generate(archive, binary, int64(size)<<20); err != nil {
		return err
	}
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	contenders := []*contender{
		{name: "floor", args: []string{self, "floor", archive}},
		{name: "breakwater", args: []string{binary, "scan", "--data", dir, "--format", "json", archive}},
		{name: "and verify", args: []string{binary, "scan", "--data", dir, "--format", "json", "--verify", archive}},
	}
	if other != "" {
		contenders = append(contenders, &contender{name: filepath.Base(other), args: []string{other, archive}})
	}
	for range runs + 1 { // the first round warms the page cache and is dropped
		for _, c := range contenders {
			if err := c.run(); err != nil {
				return err
			}
		}
	}
	fmt.Printf("archive %d MB, %d runs each, interleaved, %d CPUs, medians (least to most)\n", info.Size()>>20, runs, runtime.NumCPU())
	base := contenders[0].median()
	for _, c := range contenders {
		c.print(base)
	}
	return nil
}

func (c *contender) run() error {
	cmd := exec.CommandContext(context.Background(), c.args[0], c.args[1:]...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	peak := watch(cmd.Process.Pid)
	err := cmd.Wait()
	c.wall = append(c.wall, time.Since(start))
	c.rss = append(c.rss, peak())
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	// The times of a waited-for process include the children it waited for.
	c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	return nil
}

func (c *contender) median() time.Duration { return median(c.cpu[1:]) }

func (c *contender) print(base time.Duration) {
	cpu, wall, rss := c.cpu[1:], c.wall[1:], c.rss[1:]
	fmt.Printf("%-12s CPU %v (%v to %v) = %.2f × floor, wall %v, peak RSS of all its processes %d MiB\n", c.name,
		median(cpu).Round(time.Millisecond), slices.Min(cpu).Round(time.Millisecond), slices.Max(cpu).Round(time.Millisecond),
		float64(median(cpu))/float64(base), median(wall).Round(time.Millisecond), slices.Max(rss)>>10)
}

func median[T time.Duration | int64](v []T) T {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}
