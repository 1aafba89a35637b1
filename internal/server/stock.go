package server

import (
	"context"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// stock is every distinct package of every image, judged once by one bundle:
// an image is then a list of numbers. Safe for concurrent use.
type stock struct {
	bundle    *usedBundle
	used      *report.Intelligence
	packages  []store.Stocked
	numbers   []uint32 // of the packages, in the catalogue
	places    places   // where in packages
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
	st := &stock{bundle: bundle, used: bundle.Manifest().Intelligence(), packages: all, numbers: make([]uint32, len(all)), likelihood: likelihood}
	owners := st.owners()
	for i := range all {
		p := &all[i]
		st.places.set(p.ID, int32(i))
		st.numbers[i] = st.catalogue.Number(intel.JudgeableOf(p.Distro, &p.Package, owners[owned{p.Distro, p.Package.Owner}]))
	}
	st.catalogue.Close()
	st.judged, err = bundle.JudgeAll(ctx, &st.catalogue, likelihood)
	return st, err
}

// places says where in the stock a row is; its pages hold the rows whose numbers
// are near to each other, as nearly all are.
type places struct{ pages [][]int32 }

// placesInPage is how many rows' numbers share a page.
const placesInPage = 1024

func (p *places) set(id int64, place int32) {
	page := int(id / placesInPage)
	for len(p.pages) <= page {
		p.pages = append(p.pages, nil)
	}
	if p.pages[page] == nil {
		p.pages[page] = make([]int32, placesInPage)
	}
	p.pages[page][id%placesInPage] = place + 1
}

func (p *places) get(id int64) (place int32, ok bool) {
	page := id / placesInPage
	if id < 0 || page >= int64(len(p.pages)) || p.pages[page] == nil {
		return 0, false
	}
	place = p.pages[page][id%placesInPage]
	return place - 1, place > 0
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

// weighed is what one package's findings come to under a set of policies.
type weighed struct {
	standing store.Standing
	heavy    []event.Finding // those that a verdict can rest on
	first    int32           // number of the first of them
	stated   bool            // a VEX document speaks of one of its findings
}

// weigh sums up what is found of each package.
func (st *stock) weigh(ctx context.Context, j *judging) (out []weighed, count int32, err error) {
	out = make([]weighed, len(st.packages))
	texts := j.set.ReadsTexts()
	for i := range st.packages {
		found, err := st.judged.Findings(ctx, st.numbers[i])
		if err != nil {
			return nil, 0, err
		}
		out[i].standing, out[i].first = store.StandingOf(found, 0), count
		for k := range found {
			weighs := j.set.Weighs(&found[k])
			if !weighs && !j.said.Any() {
				continue
			}
			f := found[k]
			f.Package = st.packages[i].Package
			if !texts {
				f.Ratings, f.Title, f.URL = nil, "", ""
			}
			out[i].stated = out[i].stated || j.said.Mention(&f)
			if weighs {
				out[i].heavy = append(out[i].heavy, f)
				count++
			}
		}
	}
	return out, count, nil
}

// judge gives an inventory its findings and a verdict; nil when that takes the
// whole report, which knows where each package lies.
func (w *worker) judge(inv *store.Inventory) (*store.Judged, error) {
	st := w.stock
	if w.readsPlaces {
		return nil, nil
	}
	rep, err := inv.Rest()
	if err != nil {
		return nil, err
	}
	if len(rep.Excluded)+len(rep.Accepted) > 0 {
		return nil, nil
	}
	standing := store.Standing{Worst: -1}
	w.numbers, w.memo.Findings, w.memo.Numbers = w.numbers[:0], w.memo.Findings[:0], w.memo.Numbers[:0]
	for _, id := range inv.Packages {
		at, ok := st.places.get(id)
		if !ok { // it came after the stock was taken
			return nil, nil
		}
		w.numbers = append(w.numbers, st.numbers[at])
		x := &w.weighed[at]
		if x.stated { // whether that counts depends on the image
			return nil, nil
		}
		standing.Worst = max(standing.Worst, x.standing.Worst)
		standing.Findings += x.standing.Findings
		standing.Fixable += x.standing.Fixable
		for k := range x.heavy {
			w.memo.Findings = append(w.memo.Findings, &x.heavy[k])
			w.memo.Numbers = append(w.memo.Numbers, x.first+int32(k))
		}
		if w.readsPackages {
			rep.Packages = append(rep.Packages, st.packages[at].Package)
		}
	}
	rep.SetMatched(nil, st.used, st.judged.Gaps(rep.Distro, w.numbers))
	standing.Gaps = len(rep.Gaps)
	facts := rep.Facts()
	facts.Memo = &w.memo
	return &store.Judged{Digest: inv.Digest, Pipeline: inv.Pipeline, Verdict: w.set.Image(w.now, facts), Matched: true, Bundle: st.used, Standing: standing, Inventory: inv}, nil
}

// worker judges inventories one after the other.
type worker struct {
	*judging
	stock                      *stock
	weighed                    []weighed // by place in the stock
	readsPlaces, readsPackages bool
	memo                       policy.Memo
	numbers                    []uint32 // of the inventory
}
