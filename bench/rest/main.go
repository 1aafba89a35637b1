// Command rest measures what an agent costs on a host where nothing happens: a
// private engine with idle containers, a server and an agent as programs of
// their own, so that the agent is measured alone. It needs root.
//
//	go run ./bench/rest -breakwater BINARY [-containers 20] [-windows 3] [-window 60s]
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
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func main() {
	var b bench
	flag.StringVar(&b.binary, "breakwater", "", "the binary to measure")
	flag.IntVar(&b.containers, "containers", 20, "idle containers")
	flag.IntVar(&b.windows, "windows", 3, "windows to measure in")
	flag.DurationVar(&b.window, "window", time.Minute, "length of a window")
	flag.DurationVar(&b.settle, "settle", 30*time.Second, "time to settle before the first window")
	flag.Parse()
	if err := b.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/rest:", err)
		os.Exit(1)
	}
}

type bench struct {
	binary              string
	containers, windows int
	window, settle      time.Duration

	dir, under string
	engine     *testenv.Docker
	closers    []func()
}

func (b *bench) later(f func()) { b.closers = append(b.closers, f) }

func (b *bench) run(ctx context.Context) (err error) {
	if b.binary == "" || b.windows < 1 || b.containers < 0 || os.Geteuid() != 0 {
		return errors.New("run it as root, name the binary with -breakwater; at least one window")
	}
	defer func() {
		for _, f := range slices.Backward(b.closers) {
			f()
		}
	}()
	if err := b.stage(ctx); err != nil {
		return err
	}
	agent, err := b.agent(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("agent at rest with %d containers, %d windows of %s, after %s\n", b.containers, b.windows, b.window, b.settle)
	time.Sleep(b.settle)
	var cpu []time.Duration
	var memory []usage
	for range b.windows {
		c, m, err := observe(agent.Process.Pid, b.window)
		if err != nil {
			return err
		}
		cpu, memory = append(cpu, c), append(memory, m)
	}
	b.print(cpu, memory)
	return nil
}

// stage makes the host: a cgroup, an engine and its containers.
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
	image, err := b.engine.ImportBusybox(ctx)
	if err != nil {
		return err
	}
	for i := range b.containers {
		out, err := b.engine.Command(ctx, "run", "-d", "--name", fmt.Sprint("idle", i), "--network=none", image, "sleep", "86400").CombinedOutput()
		if err != nil {
			return fmt.Errorf("container %d: %w: %s", i, err, out)
		}
	}
	return nil
}

// agent starts a server and an agent that joins it, and gives the agent.
func (b *bench) agent(ctx context.Context) (*exec.Cmd, error) {
	serverData, agentData := filepath.Join(b.dir, "server"), filepath.Join(b.dir, "agent")
	_, said, err := b.start(ctx, "Serving.", "server", "--data="+serverData, "--listen=127.0.0.1:0", "--bus-listen=127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	token, err := exec.CommandContext(ctx, b.binary, "agents", "token", "--data="+serverData).Output()
	if err != nil {
		return nil, fmt.Errorf("agents token: %w", err)
	}
	file := filepath.Join(b.dir, "token")
	if err := os.WriteFile(file, token, 0o600); err != nil {
		return nil, err
	}
	pin := filepath.Join(b.dir, "bpf")
	b.later(func() { _ = exec.Command(b.binary, "unload", "--pin="+pin).Run() }) // there may be nothing yet
	agent, _, err := b.start(ctx, "Guarding. Ctrl-C", "agent", "--data="+agentData, "--server="+word(said, "Console:"), "--fingerprint="+word(said, "Fingerprint:"),
		"--token-file="+file, "--engine="+b.engine.Socket, "--pin="+pin, "--under="+b.under, "--gate=no")
	return agent, err
}

// word is what follows a label on a line.
func word(text, label string) string {
	_, after, _ := strings.Cut(text, label)
	first, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	first, _, _ = strings.Cut(first, " ")
	return first
}

// start starts breakwater and waits until it has said a text.
func (b *bench) start(ctx context.Context, until string, args ...string) (cmd *exec.Cmd, said string, err error) {
	log, err := os.Create(filepath.Join(b.dir, args[0]+".log"))
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	cmd = exec.CommandContext(ctx, b.binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	b.later(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended by our signal
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			return nil, "", err
		}
		if strings.Contains(string(text), until) {
			return cmd, string(text), nil
		}
		if time.Now().After(deadline) {
			return nil, "", fmt.Errorf("breakwater %s is not ready:\n%s", args[0], text)
		}
	}
}

func (b *bench) print(cpu []time.Duration, memory []usage) {
	share := func(d time.Duration) float64 { return 100 * float64(d) / float64(b.window) }
	slices.Sort(cpu)
	slices.SortFunc(memory, func(x, y usage) int { return int(x.rss - y.rss) })
	m := memory[len(memory)/2]
	fmt.Printf("CPU  median %.2f %% of a core (%.2f to %.2f)   target ≤ 1 %%\n", share(cpu[len(cpu)/2]), share(cpu[0]), share(cpu[len(cpu)-1]))
	fmt.Printf("RSS  median %d MiB (PSS %d MiB, of it private and dirty %d MiB), most %d MiB   target ≤ 80 MiB\n",
		m.rss>>20, m.pss>>20, m.private>>20, memory[len(memory)-1].rss>>20)
}
