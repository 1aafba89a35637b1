// Command scan measures `breakwater scan` on a large archive against a floor:
// a plain single pass over the same file that only finds and reads package
// files; then the same image in a Docker engine of its own, and with its layers
// known. Other scanners (trivy, syft, grype) take part when they are installed.
// All run as whole processes, interleaved.
//
//	go run ./bench/scan -breakwater BINARY [-floor PROGRAM] [-runs 7] [-mb 750] [-engine=false]
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

	"github.com/breakwater-sec/breakwater/internal/testenv"
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
	engine := flag.Bool("engine", true, "measure the image in a private Docker engine too (needs root)")
	flag.Parse()
	if err := bench(*binary, *other, *runs, *size, *engine); err != nil {
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

func bench(binary, other string, runs, size int, engine bool) error {
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
	scan := func(name, target string, args ...string) *contender {
		return &contender{name: name, args: append(append([]string{binary, "scan", "--data", dir, "--format", "json"}, args...), target)}
	}
	cache := filepath.Join(dir, "cache")
	contenders := []*contender{
		{name: "floor", args: []string{self, "floor", archive}},
		scan("archive", archive, "--no-cache"),
		scan("and verify", archive, "--no-cache", "--verify"),
	}
	if engine {
		docker, err := testenv.StartDocker()
		if err != nil {
			return err
		}
		defer docker.Close()
		if _, msg, code := docker.Run("load", "-i", archive); code != 0 {
			return fmt.Errorf("docker load: %s", msg)
		}
		at := []string{"--engine", "unix://" + docker.Socket}
		contenders = append(contenders,
			scan("engine", "docker:bench:1", append(at, "--no-cache")...),
			scan("layers known", "docker:bench:1", append(at, "--cache", cache)...),
		)
	}
	contenders = append(contenders, peers(archive)...)
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

// peers are other scanners, packages only, where they are installed.
func peers(archive string) (out []*contender) {
	for _, p := range [][]string{
		{"syft", "scan", "docker-archive:" + archive, "-q", "-o", "json"},
		{"trivy", "image", "--input", archive, "-q", "--format", "json", "--list-all-pkgs", "--scanners", "license", "--offline-scan", "--cache-backend", "memory"},
		{"grype", "docker-archive:" + archive, "-q", "-o", "json"},
	} {
		if path, err := exec.LookPath(p[0]); err == nil {
			out = append(out, &contender{name: p[0], args: append([]string{path}, p[1:]...)})
		}
	}
	return out
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
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	fmt.Printf("%-12s CPU %v (%v to %v) = %.2f × floor, wall %v (%v to %v), peak RSS of all its processes %d MiB\n", c.name,
		ms(median(cpu)), ms(slices.Min(cpu)), ms(slices.Max(cpu)), float64(median(cpu))/float64(base),
		ms(median(wall)), ms(slices.Min(wall)), ms(slices.Max(wall)), slices.Max(rss)>>10)
}

func median[T time.Duration | int64](v []T) T {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}
