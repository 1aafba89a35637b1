package server

import (
	"context"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
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
	before := s.matcher.take()
	if before != nil {
		defer before.users.Done()
	}
	if _, err := s.matcher.refresh(ctx); err != nil {
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
	return s.rejudgeAll(ctx, judged, before, now)
}

// rejudgeAll judges each distinct package once, and then the images that hold
// one of which something else is found.
func (s *Server) rejudgeAll(ctx context.Context, judged string, before, now *usedBundle) error {
	started := time.Now()
	r, err := s.compare(ctx, judged, before, now)
	if err != nil {
		return err
	}
	digests, err := s.store.Outdated(ctx, r)
	failed, count := map[string]bool{}, 0
	for err == nil && len(digests) > 0 {
		for _, digest := range digests {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := s.rematch(ctx, digest, now); err != nil {
				failed[digest] = true
				s.o.Log.Error("image not judged by new intelligence", "image", digest, "error", err)
			}
		}
		count += len(digests)
		s.judge(ctx, digests)
		digests, err = s.store.Rejudged(ctx, r, failed)
	}
	if err == nil && count == 0 {
		_, err = s.store.Rejudged(ctx, r, failed)
	}
	if err != nil {
		return err
	}
	s.o.Log.Info("new intelligence: every known image is judged by it", "bundle", r.Bundle, "packages", len(r.Prints), "changed", len(r.Changed), "images", count, "took", time.Since(started).Round(time.Millisecond))
	_, err = s.store.PruneThings(ctx)
	return err
}

// compare says of which packages the new bundle finds something else.
func (s *Server) compare(ctx context.Context, judged string, before, now *usedBundle) (store.Rejudgement, error) {
	m := now.Manifest()
	r := store.Rejudgement{Before: judged, Bundle: m.Version, Built: m.Built, Prints: map[int64]uint64{}}
	stock, err := s.store.Stock(ctx)
	if err != nil {
		return r, err
	}
	var c intel.Catalogue
	numbers := make([][]uint32, len(stock))
	for i := range stock {
		numbers[i] = c.Add(stock[i].Distro, []event.Package{stock[i].Package})
	}
	after, err := now.Prints(ctx, &c, true)
	if err != nil {
		return r, err
	}
	var earlier intel.Prints
	if before != nil { // what came since the last judgement was matched by it
		if earlier, err = before.Prints(ctx, &c, true); err != nil {
			return r, err
		}
	}
	for i, p := range stock {
		print := after[numbers[i][0]]
		known, old := p.Known, p.Print
		if !known && earlier != nil {
			known, old = true, earlier[numbers[i][0]]
		}
		if !known || old != print {
			r.Changed = append(r.Changed, p.ID)
		}
		if !p.Known || p.Print != print {
			r.Prints[p.ID] = print
		}
	}
	return r, nil
}

// rematch gives one image the findings of the new bundle.
func (s *Server) rematch(ctx context.Context, digest string, now *usedBundle) error {
	img, rep, err := s.store.Image(ctx, digest)
	if err != nil {
		return err
	}
	findings, used, gaps, err := now.Match(ctx, rep.Distro, rep.Packages)
	if err != nil {
		return err
	}
	rep.SetMatched(rep.Findings, used, gaps)
	rep.Image.References = img.References // as they are known today
	setFindings(&rep, findings, s.o.Now())
	return s.store.PutMatched(ctx, img, rep)
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
