package server

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// stock is every distinct package of every image, judged once by one bundle:
// an image is then a list of numbers. Of a package stays what a verdict can rest
// on, a few bytes for most. Safe for concurrent use once it is taken.
type stock struct {
	bundle  *usedBundle
	used    *report.Intelligence
	sweep   *intel.Sweep
	places  places // of the rows
	known   []intel.Known
	weighed []weighed
	// packages is nil where findings hold all that policies read of them.
	packages []event.Package
	heavy    int32 // how many findings a verdict can rest on
}

// weighed is what one package's findings come to under a set of policies.
type weighed struct {
	heavy             []*event.Finding // those that a verdict can rest on, without their package: packages share them
	of                *event.Package   // whose they are; nil when there are none
	first             int32            // number of the first of them
	findings, fixable int32
	worst             int8
	stated            bool // a VEX document speaks of one of its findings
}

// taker takes stock.
type taker struct {
	*judging
	stock  *stock
	reads  struct{ texts, packages bool }
	heard  func(p *store.Stocked, j *intel.Judgeable, r *intel.Result) error // may be nil
	mu     sync.Mutex
	owners map[owned]intel.Owner
	later  []waiting
	heavy  map[uint64]*event.Finding // by their number, to share them
}

// owned tells a distribution's package by its purl.
type owned struct {
	distro report.Distro
	purl   string
}

// waiting is a package that is judged when all owners are known.
type waiting struct {
	place int
	store.Stocked
}

// takeStock reads all packages, judges them, and weighs what is found. heard, if
// it is not nil, hears of each package, on several cores at once.
func (s *Server) takeStock(ctx context.Context, bundle *usedBundle, j *judging, likelihood bool, heard func(*store.Stocked, *intel.Judgeable, *intel.Result) error) (*stock, error) {
	n, err := s.store.StockSize(ctx)
	if err != nil {
		return nil, err
	}
	st := &stock{bundle: bundle, used: bundle.Manifest().Intelligence(), sweep: bundle.Sweep(likelihood), known: make([]intel.Known, n), weighed: make([]weighed, n)}
	t := &taker{judging: j, stock: st, heard: heard, owners: map[owned]intel.Owner{}, heavy: map[uint64]*event.Finding{}}
	t.reads.texts, t.reads.packages = j.set.ReadsTexts(), j.set.ReadsPackages()
	if t.reads.packages {
		st.packages = make([]event.Package, n)
	}
	if err := s.store.Stock(ctx, n, func(first int, some []store.Stocked) error { return t.take(ctx, first, some) }); err != nil {
		return nil, err
	}
	if err := t.takeOwned(ctx); err != nil {
		return nil, err
	}
	for i := range st.weighed {
		st.weighed[i].first = st.heavy
		st.heavy += int32(len(st.weighed[i].heavy))
	}
	bundle.Forget() // its advisories too: what matters of them is weighed
	return st, nil
}

// take judges some packages, but those that somebody owns.
func (t *taker) take(ctx context.Context, first int, some []store.Stocked) error {
	list, at := make([]intel.Judgeable, 0, len(some)), make([]int, 0, len(some))
	t.mu.Lock()
	for i := range some {
		p := &some[i]
		t.stock.places.set(p.ID, int32(first+i))
		if p.Package.Owner != "" {
			t.later = append(t.later, waiting{first + i, *p})
			continue
		}
		if vuln.IsDistribution(p.Package.Ecosystem) {
			t.owners[owned{p.Distro, p.Package.PURL}] = intel.OwnerOf(p.Distro, &p.Package)
		}
		at = append(at, i)
	}
	t.mu.Unlock()
	for _, i := range at {
		list = append(list, intel.JudgeableOf(some[i].Distro, &some[i].Package, intel.Owner{}))
	}
	return t.stock.sweep.Each(ctx, list, func(i int, r intel.Result) error {
		return t.one(first+at[i], &some[at[i]], &list[i], &r)
	})
}

// takeOwned judges the packages that somebody owns. One purl of one distribution
// is one owner, in whichever image it is.
func (t *taker) takeOwned(ctx context.Context) error {
	list := make([]intel.Judgeable, len(t.later))
	for i := range t.later {
		p := &t.later[i]
		list[i] = intel.JudgeableOf(p.Distro, &p.Package, t.owners[owned{p.Distro, p.Package.Owner}])
	}
	return t.stock.sweep.Each(ctx, list, func(i int, r intel.Result) error {
		return t.one(t.later[i].place, &t.later[i].Stocked, &list[i], &r)
	})
}

// one keeps what is known of a package.
func (t *taker) one(place int, p *store.Stocked, j *intel.Judgeable, r *intel.Result) error {
	t.stock.known[place] = r.Known
	if t.reads.packages {
		t.stock.packages[place] = apart(&p.Package)
	}
	t.weigh(&t.stock.weighed[place], &p.Package, r)
	if t.heard == nil {
		return nil
	}
	return t.heard(p, j, r)
}

// weigh sums up what is found of a package.
func (t *taker) weigh(out *weighed, p *event.Package, r *intel.Result) {
	standing := store.StandingOf(r.Findings, 0)
	out.worst, out.findings, out.fixable = int8(standing.Worst), int32(standing.Findings), int32(standing.Fixable)
	for k := range r.Findings {
		if t.said.Any() {
			f := r.Findings[k]
			f.Package = *p
			out.stated = out.stated || t.said.Mention(&f)
		}
		if !t.set.Weighs(&r.Findings[k]) {
			continue
		}
		if out.of == nil {
			of := apart(p)
			out.of = &of
		}
		out.heavy = append(out.heavy, t.share(r.Findings[k], r.Each[k]))
	}
	out.heavy = slices.Clip(out.heavy)
}

// share gives the one value of findings that are the same to policies.
func (t *taker) share(f event.Finding, number uint64) *event.Finding {
	if t.reads.texts {
		return &f
	}
	f.Ratings, f.Title, f.URL = nil, "", ""
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.heavy[number]
	if !ok {
		t.heavy[number], known = &f, &f
	}
	if known.ID != f.ID || known.FixedVersion != f.FixedVersion { // a number that two have
		return &f
	}
	return known
}

// apart is a package that keeps no more in memory than it says.
func apart(p *event.Package) event.Package {
	out := *p
	for _, s := range []*string{&out.Name, &out.Version, &out.PURL, &out.Source, &out.SourceVersion, &out.Module, &out.Owner} {
		*s = strings.Clone(*s)
	}
	return out
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
	w.known, w.memo.Findings, w.memo.Numbers = w.known[:0], w.memo.Findings[:0], w.memo.Numbers[:0]
	for _, id := range inv.Packages {
		at, ok := st.places.get(id)
		if !ok { // it came after the stock was taken
			return nil, nil
		}
		w.known = append(w.known, st.known[at])
		x := &st.weighed[at]
		if x.stated { // whether that counts depends on the image
			return nil, nil
		}
		standing.Worst = max(standing.Worst, int(x.worst))
		standing.Findings += int(x.findings)
		standing.Fixable += int(x.fixable)
		for k, f := range x.heavy {
			w.memo.Findings = append(w.memo.Findings, policy.Found{Finding: f, In: x.of})
			w.memo.Numbers = append(w.memo.Numbers, x.first+int32(k))
		}
		if w.readsPackages {
			rep.Packages = append(rep.Packages, st.packages[at])
		}
	}
	rep.SetMatched(nil, st.used, st.sweep.Gaps(rep.Distro, w.known))
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
	known                      []intel.Known // of the inventory
}
