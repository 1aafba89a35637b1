package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Plan is a whole run: every suite in every guest.
type Plan struct {
	Guests   []Guest
	Suites   []Suite
	Parallel int           // guests at a time; each takes two processors
	Timeout  time.Duration // of one guest
	Console  io.Writer     // gets the guests' consoles as they come; nil: nobody
}

// Outcome is what came of one guest.
type Outcome struct {
	Guest   Guest
	Results []Result // one per suite, in order, as far as it came
	Took    time.Duration
	Err     error // of the guest or of a suite; nil: everything passed
}

// Run fetches what is missing, builds the suites of the module in root, and
// boots the guests. Report is called once per guest when that is done, one
// call at a time. The error is about what kept guests from running at all.
func (l *Lab) Run(ctx context.Context, root string, plan Plan, report func(Outcome)) error {
	var series []string
	for _, g := range plan.Guests {
		series = append(series, g.Series)
	}
	if err := l.Fetch(ctx, series...); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "breakwater-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	initrd, err := l.Compile(ctx, root, dir, plan.Suites)
	if err != nil {
		return err
	}
	var (
		group sync.WaitGroup
		turn  sync.Mutex // guards calls of report
		slots = make(chan struct{}, max(1, plan.Parallel))
	)
	for _, g := range plan.Guests {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			o := l.runGuest(ctx, g, initrd, plan)
			turn.Lock()
			defer turn.Unlock()
			report(o)
		})
	}
	group.Wait()
	return ctx.Err()
}

func (l *Lab) runGuest(ctx context.Context, g Guest, initrd string, plan Plan) Outcome {
	start := time.Now()
	results, err := l.Boot(ctx, g, initrd, plan.Timeout, plan.Console)
	return Outcome{Guest: g, Results: results, Took: time.Since(start), Err: judge(results, plan.Suites, err)}
}

// judge adds to a guest's own error what is wrong with its suites.
func judge(results []Result, suites []Suite, err error) error {
	errs := []error{err}
	for i, s := range suites {
		if i >= len(results) || results[i].Package != s.Package {
			errs = append(errs, fmt.Errorf("%s did not begin", s.Package))
			continue
		}
		errs = append(errs, results[i].Err())
	}
	return errors.Join(errs...)
}
