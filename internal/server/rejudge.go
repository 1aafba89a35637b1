package server

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/event"
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
	st, err := s.takeStock(ctx, now, j, j.set.ReadsLikelihood())
	if err != nil {
		return err
	}
	packages := len(st.packages)
	changed, r, err := s.compare(ctx, st, judged, before)
	if err != nil {
		return err
	}
	count, err := s.judgeStock(ctx, j, st, func(i *store.Inventory) bool {
		return i.Bundle != r.Bundle && (i.Bundle != judged || slices.ContainsFunc(i.Packages, func(id int64) bool {
			at, ok := st.places.get(id)
			return ok && changed[at]
		}))
	})
	if err == nil {
		err = s.store.Rejudged(ctx, r)
	}
	if err != nil {
		return err
	}
	s.o.Log.Info("new intelligence: every known image is judged by it", "bundle", r.Bundle, "packages", packages, "changed", r.Changed, "images", count, "took", time.Since(started).Round(time.Millisecond))
	_, err = s.store.PruneThings(ctx)
	return err
}

// affectedAtOnce is how many packages' findings one transaction writes.
const affectedAtOnce = 2000

// compare says of which packages the new bundle finds something else, and
// writes down what. changed is by place in the stock.
func (s *Server) compare(ctx context.Context, st *stock, judged string, before *usedBundle) (changed []bool, r store.Rejudgement, err error) {
	m := st.bundle.Manifest()
	r = store.Rejudgement{Before: judged, Bundle: m.Version, Built: m.Built, Prints: map[int64]uint64{}}
	earlier, err := st.printsBefore(ctx, before)
	if err != nil {
		return nil, r, err
	}
	changed = make([]bool, len(st.packages))
	var batch []store.Affected
	for i := range st.packages {
		p, number := &st.packages[i], st.numbers[i]
		now, known, old := st.judged.Prints[number], p.Known, p.Print
		if !p.Known || old != now {
			r.Prints[p.ID] = now
		}
		if !known && earlier != nil { // what came since the last judgement was matched by it
			known, old = true, earlier[number]
		}
		if known && old == now {
			continue
		}
		changed[i] = true
		r.Changed++
		findings, err := st.judged.Findings(ctx, number)
		if err != nil {
			return nil, r, err
		}
		batch = append(batch, store.Affected{Package: *p, Findings: findings})
		if len(batch) == affectedAtOnce {
			if err := s.store.SetAffected(ctx, batch); err != nil {
				return nil, r, err
			}
			batch = batch[:0]
		}
	}
	return changed, r, s.store.SetAffected(ctx, batch)
}

// judgeStock judges the inventories that pick picks, and uses the stock up. No
// more than a page of them for each core is in memory.
func (s *Server) judgeStock(ctx context.Context, j *judging, st *stock, pick func(*store.Inventory) bool) (int64, error) {
	if !j.set.ReadsPackages() { // what is found of them holds what is needed
		st.packages = nil
	}
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
