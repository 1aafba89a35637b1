package server

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// judgeByIntelligence judges every stored inventory again when the bundle on
// disk is another one, until ctx ends. Nothing is pulled for it.
func (s *Server) judgeByIntelligence(ctx context.Context) error {
	if s.o.Intelligence == "" {
		return nil
	}
	tick := time.NewTicker(intelEvery)
	defer tick.Stop()
	told := ""
	for {
		err := s.takeIntelligence(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.o.Log.Error("images are not judged by the newest intelligence", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeIntelligence opens a new bundle and judges by it. A bundle that the stock
// was not wholly judged by, because the server ended meanwhile, counts as new.
func (s *Server) takeIntelligence(ctx context.Context) error {
	s.everything.Lock()
	defer s.everything.Unlock()
	before := s.matcher.take()
	if before != nil {
		defer before.users.Done()
	}
	started := time.Now()
	s.judging.Lock() // whoever judges by the one before has written what came of it
	_, err := s.matcher.refresh(ctx)
	s.judging.Unlock()
	if err != nil {
		return err
	}
	now := s.matcher.take()
	if now == nil {
		return nil
	}
	defer now.users.Done()
	judged, err := s.store.MatchedBy(ctx)
	if err != nil || judged == now.Manifest().Version {
		return err
	}
	if before == now || before != nil && before.Manifest().Version != judged {
		before = nil // it says nothing about what was judged
	}
	return s.rejudgeAll(ctx, judged, before, now, started)
}

// rejudgeAll judges each distinct package once, and then the images that hold
// one of which something else is found, and those that the bundle before did
// not match.
func (s *Server) rejudgeAll(ctx context.Context, judged string, before, now *usedBundle, started time.Time) error {
	j, err := s.judgeNow(ctx)
	if err != nil {
		return err
	}
	c := s.newComparison(j, judged, before, now)
	st, err := s.takeStock(ctx, now, j, c.likelihood, func(p *store.Stocked, of *intel.Judgeable, r *intel.Result) error {
		return c.hear(ctx, p, of, r)
	})
	if err != nil {
		return err
	}
	if err := c.write(ctx); err != nil {
		return err
	}
	r := c.result
	count, err := s.judgeStock(ctx, j, st, func(i *store.Inventory) bool {
		return i.Bundle != r.Bundle && (i.Bundle != judged || slices.ContainsFunc(i.Packages, func(id int64) bool {
			return c.changed[id]
		}))
	})
	if err == nil {
		err = s.store.Rejudged(ctx, r)
	}
	if err != nil {
		return err
	}
	s.o.Log.Info("new intelligence: every known image is judged by it", "bundle", r.Bundle, "packages", len(st.known), "changed", r.Changed, "images", count, "took", time.Since(started).Round(time.Millisecond))
	_, err = s.store.PruneThings(ctx)
	return err
}

// affectedAtOnce is how many packages' findings one transaction writes.
const affectedAtOnce = 2000

// comparison hears of which packages a new bundle finds something else than was
// known, and writes down what. Safe for concurrent use.
type comparison struct {
	store      *store.Store
	likelihood bool         // a changed EPSS score counts as a change
	before     *intel.Sweep // by the bundle before, nil when it says nothing about what was judged

	mu      sync.Mutex
	result  store.Rejudgement
	changed map[int64]bool // by row
	batch   []store.Affected
}

func (s *Server) newComparison(j *judging, judged string, before, now *usedBundle) *comparison {
	m := now.Manifest()
	c := &comparison{store: s.store, likelihood: j.set.ReadsLikelihood(), changed: map[int64]bool{},
		result: store.Rejudgement{Before: judged, Bundle: m.Version, Built: m.Built, Prints: map[int64]uint64{}}}
	if before != nil {
		c.before = before.Sweep(c.likelihood)
	}
	return c
}

// hear compares what is found of a package with what was known.
func (c *comparison) hear(ctx context.Context, p *store.Stocked, of *intel.Judgeable, now *intel.Result) error {
	if p.Known && p.Print == now.Print {
		return nil
	}
	same := false
	if !p.Known && c.before != nil { // what came since the last judgement was matched by it
		err := c.before.Each(ctx, []intel.Judgeable{*of}, func(_ int, r intel.Result) error {
			same = r.Print == now.Print
			return nil
		})
		if err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Prints[p.ID] = now.Print
	if same {
		return nil
	}
	c.changed[p.ID] = true
	c.result.Changed++
	c.batch = append(c.batch, store.Affected{Package: *p, Findings: now.Findings})
	if len(c.batch) < affectedAtOnce {
		return nil
	}
	return c.flush(ctx)
}

// write writes what is left.
func (c *comparison) write(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush(ctx)
}

func (c *comparison) flush(ctx context.Context) error {
	err := c.store.SetAffected(ctx, c.batch)
	c.batch = c.batch[:0]
	return err
}

// judgeStock judges the inventories that pick picks. No more than a page of them
// for each core is in memory.
func (s *Server) judgeStock(ctx context.Context, j *judging, st *stock, pick func(*store.Inventory) bool) (int64, error) {
	pages := make(chan []store.Inventory)
	var count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pages)
		for after := int64(0); ; {
			page, next, err := s.store.Inventories(ctx, after)
			if err != nil {
				return err
			}
			select {
			case pages <- page:
			case <-ctx.Done():
				return ctx.Err()
			}
			if after = next; after == 0 {
				return nil
			}
		}
	})
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			w := &worker{judging: j, stock: st, readsPlaces: j.set.ReadsPlaces(), readsPackages: j.set.ReadsPackages(), memo: policy.Memo{Most: int(st.heavy)}}
			for page := range pages {
				n, err := s.judgePage(ctx, w, page, pick)
				if err != nil {
					return err
				}
				count.Add(int64(n))
			}
			return nil
		})
	}
	err := group.Wait()
	return count.Load(), err
}

// judgePage judges a page; an inventory that cannot be read keeps the others
// from nothing.
func (s *Server) judgePage(ctx context.Context, w *worker, page []store.Inventory, pick func(*store.Inventory) bool) (int, error) {
	all := make([]store.Judged, 0, len(page))
	for i := range page {
		if !pick(&page[i]) {
			continue
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		done, err := w.judge(&page[i])
		if err == nil && done == nil { // it takes the whole report
			var whole store.Judged
			whole, err = s.judgeReport(ctx, w.judging, w.stock.bundle, page[i].Digest)
			whole.Inventory = &page[i]
			done = &whole
		}
		if err != nil {
			s.o.Log.Error("image not judged", "image", page[i].Digest, "error", err)
			continue
		}
		all = append(all, *done)
	}
	turned, err := s.store.KeepJudged(ctx, all)
	s.wakeConsole(turned)
	return len(all), err
}

// setFindings replaces findings; what a statement or a baseline left out before
// stays out.
func setFindings(rep *report.Report, findings []event.Finding, now time.Time) {
	type place struct{ id, purl, path string }
	placeOf := func(f event.Finding) place { return place{f.ID, f.Package.PURL, f.Package.Path} }
	excluded, accepted := map[place]*event.Statement{}, map[place]bool{}
	rep.Accepted = slices.DeleteFunc(rep.Accepted, func(a report.Accepted) bool { return !a.Until.IsZero() && a.Until.AddDate(0, 0, 1).Before(now) })
	for _, a := range rep.Accepted {
		if a.Finding != nil {
			accepted[placeOf(*a.Finding)] = true
		}
	}
	left := map[place]event.Finding{} // what is found no more may be found again
	for _, f := range rep.Excluded {
		excluded[placeOf(f)], left[placeOf(f)] = f.VEX, f
	}
	rep.Findings, rep.Excluded = nil, nil
	for _, f := range findings {
		if vex, ok := excluded[placeOf(f)]; ok {
			f.VEX = vex
			delete(left, placeOf(f))
			rep.Excluded = append(rep.Excluded, f)
		} else if !accepted[placeOf(f)] {
			rep.Findings = append(rep.Findings, f)
		}
	}
	for _, f := range left {
		rep.Excluded = append(rep.Excluded, f)
	}
}

// wakeConsole tells whoever waits for incidents.
func (s *Server) wakeConsole(all []store.Incident) {
	if len(all) > 0 {
		s.live.wake()
	}
}
