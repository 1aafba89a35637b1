package server

import (
	"context"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// judging is what images are judged by besides intelligence, as it is in force
// when it is made.
type judging struct {
	set  *policy.Set
	said *report.Statements
	now  time.Time
}

func (s *Server) judgeNow(ctx context.Context) (*judging, error) {
	set, err := s.policySet(ctx)
	if err != nil {
		return nil, err
	}
	said, err := s.statements(ctx)
	return &judging{set: set, said: said, now: s.o.Now()}, err
}

// verdict judges a report as a container without stage, host or labels would be.
func (j *judging) verdict(rep *report.Report) event.Verdict {
	return j.set.Image(j.now, rep.Facts())
}

// judge gives images the verdict of the policies in force, by the intelligence
// in use.
func (s *Server) judge(ctx context.Context, digests []string) {
	if len(digests) == 0 {
		return
	}
	s.judging.RLock()
	defer s.judging.RUnlock()
	j, err := s.judgeNow(ctx)
	if err != nil {
		s.o.Log.Error("images not judged", "error", err)
		return
	}
	bundle := s.matcher.take()
	if bundle != nil {
		defer bundle.users.Done()
	}
	for _, digest := range digests {
		if ctx.Err() != nil {
			return
		}
		judged, err := s.judgeReport(ctx, j, bundle, digest)
		if err == nil {
			var turned []store.Incident
			turned, err = s.store.KeepJudged(ctx, []store.Judged{judged})
			s.wakeConsole(turned)
		}
		if err != nil {
			s.o.Log.Error("image not judged", "image", digest, "error", err)
		}
	}
}

// judgeEverything judges every image by the policies in force.
func (s *Server) judgeEverything(ctx context.Context) error {
	s.everything.Lock()
	defer s.everything.Unlock()
	bundle := s.matcher.take()
	if bundle == nil { // what is found stands in the reports alone
		digests, err := s.store.Digests(ctx)
		if err == nil {
			s.judge(ctx, digests)
		}
		return err
	}
	defer bundle.users.Done()
	j, err := s.judgeNow(ctx)
	if err != nil {
		return err
	}
	st, err := s.takeStock(ctx, bundle, j, j.set.ReadsLikelihood(), nil)
	if err != nil {
		return err
	}
	_, err = s.judgeStock(ctx, j, st, func(*store.Inventory) bool { return true })
	return err
}

// judgeReport judges an image by its whole report; bundle may be nil.
func (s *Server) judgeReport(ctx context.Context, j *judging, bundle *usedBundle, digest string) (store.Judged, error) {
	img, rep, err := s.reportBy(ctx, j, bundle, digest)
	if err != nil {
		return store.Judged{}, err
	}
	return store.Judged{Digest: digest, Pipeline: img.Pipeline, Verdict: j.verdict(&rep), Matched: true, Bundle: rep.Intelligence,
		Standing: store.StandingOf(rep.Findings, len(rep.Gaps)), Findings: rep.Findings, Excluded: notCounted(&rep)}, nil
}

// notCounted are findings that do not count in a report.
func notCounted(rep *report.Report) []event.Finding {
	out := slices.Clone(rep.Excluded)
	for _, a := range rep.Accepted {
		if a.Finding != nil {
			out = append(out, *a.Finding)
		}
	}
	return out
}

// Image is an image and its report, with the findings of the intelligence in
// use, whatever was in use when it was scanned.
func (s *Server) Image(ctx context.Context, digest string) (store.Image, report.Report, error) {
	bundle := s.matcher.take()
	if bundle != nil {
		defer bundle.users.Done()
	}
	said, err := s.statements(ctx)
	if err != nil {
		return store.Image{}, report.Report{}, err
	}
	return s.reportBy(ctx, &judging{said: said, now: s.o.Now()}, bundle, digest)
}

// reportBy reads a report, brings its findings up to date, and takes those out
// that do not count by the documents in force.
func (s *Server) reportBy(ctx context.Context, j *judging, bundle *usedBundle, digest string) (img store.Image, rep report.Report, err error) {
	img, rep, err = s.matchedReport(ctx, j, bundle, digest)
	if err == nil {
		j.said.ApplyTo(&rep)
	}
	return img, rep, err
}

func (s *Server) matchedReport(ctx context.Context, j *judging, bundle *usedBundle, digest string) (store.Image, report.Report, error) {
	img, rep, err := s.store.Image(ctx, digest)
	if err != nil {
		return img, rep, err
	}
	rep.Image.References = img.References // as they are known today
	if bundle == nil || rep.Intelligence != nil && rep.Intelligence.Version == bundle.Manifest().Version {
		return img, rep, nil
	}
	findings, used, gaps, err := bundle.Match(ctx, rep.Distro, rep.Packages)
	if err != nil {
		return img, rep, err
	}
	rep.SetMatched(rep.Findings, used, gaps)
	setFindings(&rep, findings, j.now)
	return img, rep, nil
}
