package server

import (
	"context"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// stock is every distinct package of every image, judged once by one bundle:
// an image is then a list of numbers. Safe for concurrent use.
type stock struct {
	bundle    *usedBundle
	used      *report.Intelligence
	packages  []store.Stocked
	numbers   []uint32        // of the packages, in the catalogue
	places    map[int64]int32 // by row, where in packages
	catalogue intel.Catalogue
	judged    *intel.Judged
	// likelihood: a changed EPSS score counts as a change.
	likelihood bool
}

// takeStock reads all packages and judges them.
func (s *Server) takeStock(ctx context.Context, bundle *usedBundle, likelihood bool) (*stock, error) {
	all, err := s.store.Stock(ctx)
	if err != nil {
		return nil, err
	}
	st := &stock{bundle: bundle, used: bundle.Manifest().Intelligence(), packages: all, numbers: make([]uint32, len(all)), places: make(map[int64]int32, len(all)), likelihood: likelihood}
	owners := st.owners()
	for i := range all {
		p := &all[i]
		st.places[p.ID] = int32(i)
		st.numbers[i] = st.catalogue.Number(intel.JudgeableOf(p.Distro, &p.Package, owners[owned{p.Distro, p.Package.Owner}]))
	}
	st.judged, err = bundle.JudgeAll(ctx, &st.catalogue, likelihood)
	return st, err
}

// owned tells a distribution's package by its purl.
type owned struct {
	distro report.Distro
	purl   string
}

// owners are the packages that own others. One purl of one distribution is one
// package, in whichever image it is.
func (st *stock) owners() map[owned]*event.Package {
	out := map[owned]*event.Package{}
	for i := range st.packages {
		if p := &st.packages[i]; p.Package.Owner != "" {
			out[owned{p.Distro, p.Package.Owner}] = nil
		}
	}
	for i := range st.packages {
		p := &st.packages[i]
		key := owned{p.Distro, p.Package.PURL}
		if _, asked := out[key]; asked && p.Package.Owner == "" {
			out[key] = &p.Package
		}
	}
	return out
}

// printsBefore are the prints of an earlier bundle, of a stock that holds
// packages which were never judged; else nil.
func (st *stock) printsBefore(ctx context.Context, before *usedBundle) (intel.Prints, error) {
	if before == nil {
		return nil, nil
	}
	for i := range st.packages {
		if !st.packages[i].Known {
			return before.Prints(ctx, &st.catalogue, st.likelihood)
		}
	}
	return nil, nil
}

// judge gives an inventory its findings and a verdict; nil when that takes the
// whole report, which knows where each package lies.
func (st *stock) judge(ctx context.Context, j *judging, inv *store.Inventory) (*store.Judged, error) {
	if j.set.ReadsPlaces() {
		return nil, nil
	}
	rep, err := inv.Rest()
	if err != nil {
		return nil, err
	}
	if len(rep.Excluded)+len(rep.Accepted) > 0 {
		return nil, nil
	}
	numbers := make([]uint32, len(inv.Packages))
	var findings []event.Finding
	withPackages := j.set.ReadsPackages()
	for i, id := range inv.Packages {
		at, ok := st.places[id]
		if !ok { // it came after the stock was taken
			return nil, nil
		}
		p := &st.packages[at].Package
		numbers[i] = st.numbers[at]
		found, err := st.judged.Findings(ctx, numbers[i])
		if err != nil {
			return nil, err
		}
		for k := range found {
			findings = append(findings, found[k])
			findings[len(findings)-1].Package = *p
		}
		if withPackages {
			rep.Packages = append(rep.Packages, *p)
		}
	}
	rep.SetMatched(findings, st.used, st.judged.Gaps(rep.Distro, numbers))
	return &store.Judged{Digest: inv.Digest, Pipeline: inv.Pipeline, Verdict: j.verdict(&rep), Matched: true, Bundle: st.used,
		Standing: store.StandingOf(rep.Findings, len(rep.Gaps)), Inventory: inv}, nil
}
