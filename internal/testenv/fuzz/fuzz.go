// Package fuzz runs every fuzz target of the module for a short time, in an
// equal share of a budget. `go test -fuzz` takes one package and one target at a
// time, and instruments the standard library anew; here each package is built
// once, with only the module's own code instrumented, and run per target.
package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what to run, and how long.
type Options struct {
	Dir string // of the module
	// Budget bounds building and running together, as far as Least allows.
	Budget time.Duration
	// Least is what each target gets in any case.
	Least time.Duration
	Out   io.Writer // what is told on the way; failures too
}

// Target is one fuzz target.
type Target struct {
	Package string // import path
	Dir     string
	Name    string
}

func (t Target) String() string { return t.Package + "." + t.Name }

// Run builds and runs all targets. Its error names those that failed; what they
// say, with the input that they failed on, is in Out by then, and the input lies
// among the seeds of its package.
func Run(ctx context.Context, o Options) error {
	started := time.Now()
	targets, err := Targets(ctx, o.Dir)
	if err != nil {
		return err
	}
	binaries, err := os.MkdirTemp("", "breakwater-fuzz-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(binaries)
	paths, err := build(ctx, o.Dir, binaries, targets)
	if err != nil {
		return err
	}
	cache, err := output(ctx, o.Dir, "go", "env", "GOCACHE")
	if err != nil {
		return err
	}
	workers := runtime.GOMAXPROCS(0)
	share := max(o.Least, (o.Budget-time.Since(started))*time.Duration(workers)/time.Duration(max(1, len(targets)))).Round(10 * time.Millisecond)
	fmt.Fprintf(o.Out, "fuzz: %d targets built in %v; each runs for %v\n", len(targets), time.Since(started).Round(time.Second), share)
	r := runner{Options: o, binaries: paths, corpus: filepath.Join(strings.TrimSpace(cache), "fuzz"), share: share}
	failed := r.all(ctx, targets, workers)
	fmt.Fprintf(o.Out, "fuzz: %d of %d targets failed, after %v\n", len(failed), len(targets), time.Since(started).Round(time.Second))
	if len(failed) > 0 {
		return fmt.Errorf("fuzz targets failed: %s", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

// Targets lists the fuzz targets of a module.
func Targets(ctx context.Context, dir string) ([]Target, error) {
	text, err := output(ctx, dir, "go", "list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles", "./...")
	if err != nil {
		return nil, err
	}
	var all []Target
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var p struct {
			ImportPath, Dir           string
			TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			source, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				return nil, err
			}
			for _, name := range named(source) {
				all = append(all, Target{p.ImportPath, p.Dir, name})
			}
		}
	}
}

func named(source []byte) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`).FindAllSubmatch(source, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// build makes the packages' test binaries, so that the module's own code tells
// the fuzzer where it went. Where each one lies is given by package.
func build(ctx context.Context, dir, to string, targets []Target) (map[string]string, error) {
	module, err := output(ctx, dir, "go", "list", "-m")
	if err != nil {
		return nil, err
	}
	paths, batches := map[string]string{}, [][]string{} // in one batch no two packages have the same base name
	for _, t := range targets {
		for i := 0; paths[t.Package] == ""; i++ {
			if i == len(batches) {
				batches = append(batches, nil)
			}
			if path := filepath.Join(to, fmt.Sprint(i), filepath.Base(t.Package)+".test"); !slices.Contains(slices.Collect(maps.Values(paths)), path) {
				paths[t.Package], batches[i] = path, append(batches[i], t.Package)
			}
		}
	}
	for i, packages := range batches {
		args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-gcflags=" + strings.TrimSpace(module) + "/...=-d=libfuzzer", "-o", filepath.Join(to, fmt.Sprint(i)) + "/"}
		if _, err := output(ctx, dir, "go", append(args, packages...)...); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, stderr.String())
	}
	return string(out), nil
}

type runner struct {
	Options
	binaries map[string]string // by package
	corpus   string
	share    time.Duration
	mu       sync.Mutex // of Out and failed
	failed   []string
}

func (r *runner) all(ctx context.Context, targets []Target, workers int) []string {
	next := make(chan Target)
	var busy sync.WaitGroup
	for range workers {
		busy.Go(func() {
			for t := range next {
				r.one(ctx, t)
			}
		})
	}
	for _, t := range targets {
		if ctx.Err() == nil {
			next <- t
		}
	}
	close(next)
	busy.Wait()
	return r.failed
}

// grace is how long a target may take to end after its time: it is doing its
// last input. One that takes longer hangs on it, which is a failure.
const grace = time.Minute

func (r *runner) one(ctx context.Context, t Target) {
	ctx, cancel := context.WithTimeout(ctx, r.share+grace)
	defer cancel()
	// The tests themselves ran before: only what is generated from the seeds is new.
	cmd := exec.CommandContext(ctx, r.binaries[t.Package],
		"-test.run=^$", "-test.fuzz=^"+t.Name+"$", "-test.fuzztime="+r.share.String(), "-test.fuzzminimizetime=1s",
		"-test.parallel=1", "-test.fuzzcachedir="+filepath.Join(r.corpus, filepath.FromSlash(t.Package)))
	cmd.Dir = t.Dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil || ctx.Err() == nil && timeWasUp(said.String()) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, t.String())
	fmt.Fprintf(r.Out, "--- %s: %v\n%s%s", t, err, tail(said.String()), seed(t, said.String()))
}

// timeWasUp knows the one failure that is none: package testing's fuzzer reports
// its own deadline as an error when that falls into an input's run (Go issue 75804,
// mended in 1.27). What an input did wrong is told with that input, or as a panic,
// and what a target says has its line in front.
func timeWasUp(said string) bool {
	_, failure, found := strings.Cut(said, "--- FAIL: ")
	_, failure, more := strings.Cut(failure, "\n")
	return found && more && strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(failure), "FAIL")) == "context deadline exceeded"
}

const maxTold = 8 << 10 // bytes of a target's own words, and of its input

func tail(s string) string {
	if len(s) > maxTold {
		s = "…" + s[len(s)-maxTold:]
	}
	return s
}

// seed is the input that the target failed on, which the fuzzer wrote down.
func seed(t Target, said string) string {
	m := regexp.MustCompile(`Failing input written to (testdata/fuzz/\S+)`).FindStringSubmatch(said)
	if m == nil {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(t.Dir, m[1]))
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("%s:\n%s\n", filepath.Join(t.Dir, m[1]), text[:min(len(text), maxTold)])
}
