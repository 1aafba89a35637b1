// Command fork measures what Breakwater adds to fork+exec of a static program, or
// to opening and closing files, in a Docker container, by pairs: once with nothing loaded into the kernel,
// once with `breakwater up` guarding the container by policy.yaml, which has
// everything on. It needs root.
//
//	go run ./bench/fork -breakwater BINARY [-what exec|open] [-new 0] [-pairs 31] [-size 2000] [-rounds 3]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func main() {
	var b bench
	flag.StringVar(&b.binary, "breakwater", "", "the binary to measure")
	flag.StringVar(&b.policy, "policy", "bench/fork/policy.yaml", "the policy to guard by")
	flag.StringVar(&b.what, "what", "exec", "what to measure: exec, or open for opening and closing files")
	flag.IntVar(&b.new, "new", 0, "of a hundred programs, how many get an argument that none had before")
	flag.IntVar(&b.pairs, "pairs", 31, "pairs to measure")
	flag.IntVar(&b.size, "size", 0, "programs or files in a round; 0: 2,000 programs, 200,000 files")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds in each half of a pair; the median counts")
	flag.BoolVar(&b.idle, "idle", false, "guard nothing: measure unguarded against unguarded, which is the machine's noise")
	flag.Parse()
	if b.size == 0 {
		b.size = map[string]int{"exec": 2000, "open": 200_000}[b.what]
	}
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/fork:", err)
		os.Exit(1)
	}
}

type bench struct {
	binary, policy      string
	what                string
	pairs, size, rounds int
	new                 int
	idle                bool

	dir, under string
	engine     *testenv.Docker
	closers    []func()
}

func (b *bench) later(f func()) { b.closers = append(b.closers, f) }

func (b *bench) run(ctx context.Context) error {
	if b.binary == "" || b.pairs < 1 || b.size < 1 || b.rounds < 1 || os.Geteuid() != 0 {
		return errors.New("run it as root, name the binary with -breakwater; at least one pair, round and program")
	}
	defer func() {
		for _, f := range slices.Backward(b.closers) {
			f()
		}
	}()
	if err := b.stage(ctx); err != nil {
		return err
	}
	if n := loaded(); n > 0 {
		fmt.Printf("note: %d sets of Breakwater's programs are in this kernel already; the unguarded half pays for them too\n", n)
	}
	if err := b.install(ctx); err != nil {
		return err
	}
	var wall, cpu, agent []float64
	for i := range b.pairs {
		var free, held sample
		var own time.Duration
		bare := func() (err error) { free, err = b.storm(ctx); return err }
		guarded := func() (err error) { held, own, err = b.guarded(ctx); return err }
		order := []func() error{bare, guarded}
		if i%2 == 1 { // whatever the first half suffers from, the second does as often
			slices.Reverse(order)
		}
		for _, half := range order {
			if err := half(); err != nil {
				return err
			}
		}
		wall = append(wall, held.wall.Seconds()/free.wall.Seconds())
		cpu = append(cpu, held.cpu.Seconds()/free.cpu.Seconds())
		agent = append(agent, own.Seconds()/free.cpu.Seconds())
	}
	target := map[string]string{"exec": "target ≤ 1.10", "open": "target ≤ 1.15"}[b.what]
	fmt.Printf("%s in a container, %d pairs of %d rounds of %d, %d in a hundred new\n", map[string]string{
		"exec": "fork+exec of a static program", "open": "opening and closing a file",
	}[b.what], b.pairs, b.rounds, b.size, b.new)
	show("time on the clock, guarded : unguarded  ", wall, target)
	show("processor time, guarded : unguarded     ", cpu, target)
	show("Breakwater's own processor time beside it", agent, "")
	return nil
}

// loaded counts the programs in the kernel that every Breakwater loads once.
func loaded() (n int) {
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil && info.Name == "on_sys_exit" {
			n++
		}
		_ = p.Close()
	}
	return n
}

func show(what string, ratios []float64, target string) {
	slices.Sort(ratios)
	n := len(ratios)
	fmt.Printf("%s  median %.3f (quartiles %.3f to %.3f)   %s\n", what, ratios[n/2], ratios[n/4], ratios[n*3/4], target)
}

// stage makes the host: a cgroup, an engine and an image with the storm.
func (b *bench) stage(ctx context.Context) error {
	hierarchy, err := sensor.DetectHierarchy()
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("/run", "breakwater-test-"); err != nil {
		return err
	}
	b.later(func() { os.RemoveAll(b.dir) })
	name := filepath.Base(b.dir)
	b.under = filepath.Join(hierarchy.Root, name)
	if err := os.Mkdir(b.under, 0o755); err != nil {
		return err
	}
	b.later(func() { // the engine makes it in every hierarchy; one that is not empty yet stays
		all, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
		for _, dir := range append(all, "/sys/fs/cgroup/"+name) {
			_ = os.Remove(dir)
		}
	})
	if b.engine, err = testenv.StartDocker(testenv.WithConfig(fmt.Appendf(nil, "{\"cgroup-parent\": %q}\n", "/"+name))); err != nil {
		return err
	}
	b.later(b.engine.Close)
	return b.image(ctx)
}

const imageName = "bw-storm"

func (b *bench) image(ctx context.Context) error {
	base, err := b.engine.ImportBusybox(ctx)
	if err != nil {
		return err
	}
	folder := filepath.Join(b.dir, "image")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(folder, "storm"), "./bench/fork/storm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the storm: %w: %s", err, out)
	}
	tiny, err := testenv.TinyProgram()
	if err != nil {
		return err
	}
	dockerfile := "FROM " + base + "\nCOPY storm tiny stranger /bin/\n"
	for file, content := range map[string][]byte{"Dockerfile": []byte(dockerfile), "tiny": tiny, "stranger": tiny} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o755); err != nil {
			return err
		}
	}
	if out, err := b.engine.Command(ctx, "build", "-q", "-t", imageName, folder).CombinedOutput(); err != nil {
		return fmt.Errorf("build the image: %w: %s", err, out)
	}
	return nil
}

// sample is the median round of one half of a pair.
type sample struct{ wall, cpu time.Duration }

func (b *bench) storm(ctx context.Context) (sample, error) {
	out, err := b.engine.Command(ctx, "run", "--rm", "--network=none", imageName,
		"/bin/storm", b.what, "1s", fmt.Sprint(b.size), fmt.Sprint(b.rounds), fmt.Sprint(b.new)).CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("storm: %w: %s", err, out)
	}
	var wall, cpu []time.Duration
	for line := range strings.Lines(string(out)) {
		var w, c time.Duration
		if _, err := fmt.Sscan(line, (*int64)(&w), (*int64)(&c)); err != nil {
			return sample{}, fmt.Errorf("storm said %q", line)
		}
		wall, cpu = append(wall, w), append(cpu, c)
	}
	if len(wall) != b.rounds {
		return sample{}, fmt.Errorf("storm said %q", out)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return sample{wall[len(wall)/2], cpu[len(cpu)/2]}, nil
}
