package server

import (
	"context"
	"slices"

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
	weighed   []weighed // by place in packages
	heavy     int32     // how many findings a verdict can rest on
	// likelihood: a changed EPSS score counts as a change.
	likelihood bool
}

// takeStock reads all packages, judges them, and weighs what is found.
func (s *Server) takeStock(ctx context.Context, bundle *usedBundle, j *judging, likelihood bool) (*stock, error) {
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
	scale := st.newScale(j)
	if st.judged, err = bundle.JudgeAll(ctx, &st.catalogue, likelihood, scale.weigh); err != nil {
		return nil, err
	}
	for i := range st.weighed {
		st.weighed[i].first = st.heavy
		st.heavy += int32(len(st.weighed[i].heavy))
	}
	bundle.Forget() // its advisories too: what matters of them is weighed
	return st, nil
}

// scale weighs what is found of packages. It is safe for concurrent use with
// different numbers.
type scale struct {
	*judging
	stock *stock
	texts bool
	// The packages of number n are places[begins[n]:begins[n+1]].
	begins, places []int32
}

func (st *stock) newScale(j *judging) *scale {
	st.weighed = make([]weighed, len(st.packages))
	sc := &scale{judging: j, stock: st, texts: j.set.ReadsTexts(), begins: make([]int32, len(st.catalogue.List())+1), places: make([]int32, len(st.packages))}
	for _, n := range st.numbers {
		sc.begins[n+1]++
	}
	for n := range st.catalogue.List() {
		sc.begins[n+1] += sc.begins[n]
	}
	next := slices.Clone(sc.begins)
	for i, n := range st.numbers {
		st.weighed[i].standing.Worst = -1
		sc.places[next[n]] = int32(i)
		next[n]++
	}
	return sc
}

// weigh sums up what is found of the packages of a number.
func (sc *scale) weigh(number uint32, found []event.Finding) {
	standing := store.StandingOf(found, 0)
	for _, place := range sc.places[sc.begins[number]:sc.begins[number+1]] {
		sc.stock.weighed[place].standing = standing
	}
	for k := range found {
		weighs := sc.set.Weighs(&found[k])
		if !weighs && !sc.said.Any() {
			continue
		}
		for _, place := range sc.places[sc.begins[number]:sc.begins[number+1]] {
			f, out := found[k], &sc.stock.weighed[place]
			f.Package = sc.stock.packages[place].Package
			out.stated = out.stated || sc.said.Mention(&f)
			if !weighs {
				continue
			}
			if !sc.texts {
				f.Ratings, f.Title, f.URL = nil, "", ""
			}
			out.heavy = append(out.heavy, f)
		}
	}
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
		x := &st.weighed[at]
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
	readsPlaces, readsPackages bool
	memo                       policy.Memo
	numbers                    []uint32 // of the inventory
}
