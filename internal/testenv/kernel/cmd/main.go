// Command cmd is `make kernel-test`: it runs the kernel tests of the project's
// packages in guest kernels and prints a line per guest and suite. Its exit
// status is 0 when every test in every guest passed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv/kernel"
)

// suites is the explicit list of what runs in guest kernels.
func suites() []kernel.Suite {
	const tests = "^TestKernel"
	return []kernel.Suite{
		{Package: "./internal/testenv/kernel", Run: tests},
		{Package: "./internal/probe", Run: tests},
		{Package: "./internal/enforce", Run: tests},
		{Package: "./internal/resource", Run: tests},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernel-test:", err)
	}
	if err != nil || !passed {
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (passed bool, err error) {
	flags := flag.NewFlagSet("kernel-test", flag.ContinueOnError)
	guest := flags.String("guest", "", "only guests whose name matches this regular expression, e.g. 6.1-v2")
	pkg := flags.String("package", "", "only packages whose path contains this")
	tests := flags.String("run", "", "only tests that match this regular expression")
	verbose := flags.Bool("v", false, "print the output of tests that pass, too")
	parallel := flags.Int("parallel", max(1, runtime.NumCPU()/2), "guests at a time; each has two processors")
	timeout := flags.Duration("timeout", 30*time.Minute, "of one guest")
	console := flags.Bool("console", false, "print the guests' consoles as they come")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	plan := kernel.Plan{Parallel: *parallel, Timeout: *timeout}
	if *console {
		plan.Console = os.Stderr
	}
	if plan.Guests, err = pickGuests(*guest); err != nil {
		return false, err
	}
	if plan.Suites = pickSuites(*pkg, *tests); len(plan.Suites) == 0 {
		return false, fmt.Errorf("no package matches %q", *pkg)
	}
	lab, err := kernel.NewLab(os.Stderr)
	if err != nil {
		return false, err
	}
	passed = true
	err = lab.Run(ctx, ".", plan, func(o kernel.Outcome) {
		passed = passed && o.Err == nil
		print(o, *verbose)
	})
	return passed, err
}

func pickGuests(pattern string) ([]kernel.Guest, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var picked []kernel.Guest
	for _, g := range kernel.Guests() {
		if re.MatchString(g.String()) {
			picked = append(picked, g)
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("no guest matches %q; there are %v", pattern, kernel.Guests())
	}
	return picked, nil
}

func pickSuites(part, tests string) []kernel.Suite {
	var picked []kernel.Suite
	for _, s := range suites() {
		if !strings.Contains(s.Package, part) {
			continue
		}
		if tests != "" {
			s.Run = tests
		}
		picked = append(picked, s)
	}
	return picked
}

func print(o kernel.Outcome, verbose bool) {
	word := "ok  "
	if o.Err != nil {
		word = "FAIL"
	}
	fmt.Printf("%s %s (%.0fs)\n", word, o.Guest, o.Took.Seconds())
	for _, r := range o.Results {
		fmt.Printf("     %-28s %d passed, %d failed, %d skipped\n", r.Package, len(r.Passed), len(r.Failed), len(r.Skipped))
		switch {
		case verbose:
			fmt.Printf("%s\n", r.Output)
		case r.Err() != nil:
			fmt.Printf("%s\n", r.Trouble())
		}
	}
	if o.Err != nil {
		fmt.Printf("     %s\n", strings.ReplaceAll(o.Err.Error(), "\n", "\n     "))
	}
}
