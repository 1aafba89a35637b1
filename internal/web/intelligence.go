package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// Brought is what the intelligence in use brought beside vulnerabilities.
type Brought struct {
	Version    string // "": there is no intelligence
	Built      time.Time
	Sources    map[string]int // indicators of each feed
	Indicators []intel.Indicator
	Found      int // indicators that were asked for, on all pages
	Detections []BroughtDetection
}

// BroughtDetection is a detection as people choose by.
type BroughtDetection struct {
	ID, Title, Description string
	Severity               event.Severity
	Effect                 event.Effect // what it does when it is promoted
}

// Intelligence shows what intelligence brought, and has it enforced.
type Intelligence interface {
	// Brought gives a page of the indicators whose value, name or source holds a
	// text, and all detections.
	Brought(ctx context.Context, text string, offset, limit int) (Brought, error)
	// Promote checks and stores; its error speaks of what was asked for.
	Promote(ctx context.Context, p store.Promotion, by store.Actor) error
	Demote(ctx context.Context, id int64, reason string, by store.Actor) error
}

// Statements takes VEX documents, by which findings do not count.
type Statements interface {
	// AddVEX checks and stores a document; notes say which of its statements cannot
	// be used.
	AddVEX(ctx context.Context, name, reason string, text []byte, by store.Actor) (notes []string, err error)
	RemoveVEX(ctx context.Context, name, reason string, by store.Actor) error
}

// promotedID is a promotion as a row shows it; nil: it alerts only.
type promotedID = *store.Promotion

type indicatorRow struct {
	intel.Indicator
	By   promotedID
	Last *store.Incident
}

type detectionRow struct {
	BroughtDetection
	By   promotedID
	Last *store.Incident
}

type sourceRow struct {
	Name  string
	Count int
	By    promotedID
}

type intelligencePage struct {
	Brought
	Filter         string
	Sources        []sourceRow
	Indicators     []indicatorRow
	Detections     []detectionRow
	Promotions     []store.Promotion
	VEX            []store.VEXDocument
	Now            time.Time
	Next, Previous string
}

// intelligencePageRows is how many indicators a page shows.
const intelligencePageRows = 50

func (c *Console) intelligence(v *visit) error {
	q := v.r.URL.Query()
	offset, err := number(q, "offset")
	if err != nil {
		return v.badRequest(err)
	}
	p := intelligencePage{Filter: strings.TrimSpace(q.Get("text")), Now: c.Now()}
	if len(p.Filter) > maxSearch {
		return v.badRequest(fmt.Errorf("the filter has %d bytes: use at most %d", len(p.Filter), maxSearch))
	}
	at := int(min(offset, 10_000_000))
	if p.Brought, err = c.Intelligence.Brought(v.ctx, p.Filter, at, intelligencePageRows); err != nil {
		return err
	}
	if p.Promotions, err = c.Store.Promotions(v.ctx); err != nil {
		return err
	}
	if p.VEX, err = c.Store.VEXDocuments(v.ctx); err != nil {
		return err
	}
	if err := p.fill(v); err != nil {
		return err
	}
	if p.Found > at+intelligencePageRows {
		p.Next = "/intelligence" + query("text", p.Filter, "offset", at+intelligencePageRows)
	}
	if at > 0 {
		p.Previous = "/intelligence" + query("text", p.Filter, "offset", max(0, at-intelligencePageRows))
	}
	return v.show(http.StatusOK, "intelligence", "intelligence", "Intelligence", p)
}

// Total is how many indicators there are.
func (p intelligencePage) Total() int {
	n := 0
	for _, s := range p.Sources {
		n += s.Count
	}
	return n
}

// fill makes the rows, with what each of them hit last.
func (p *intelligencePage) fill(v *visit) error {
	for name, n := range p.Brought.Sources {
		p.Sources = append(p.Sources, sourceRow{name, n, p.promotion(api.PromoteIndicator, "", name)})
	}
	slices.SortFunc(p.Sources, func(a, b sourceRow) int { return strings.Compare(a.Name, b.Name) })
	hits, err := v.c.Store.Incidents(v.ctx, store.IncidentFilter{Detection: "network-indicator", Limit: store.MaxPage})
	if err != nil {
		return err
	}
	for _, i := range p.Brought.Indicators {
		row := indicatorRow{Indicator: i}
		if row.By = p.promotion(api.PromoteIndicator, i.Value, i.Source); row.By == nil {
			row.By = p.promotion(api.PromoteIndicator, "", i.Source)
		}
		for k := range hits {
			if strings.HasPrefix(hits[k].Decision.Why, i.Value+" is listed by ") {
				row.Last = &hits[k]
				break
			}
		}
		p.Indicators = append(p.Indicators, row)
	}
	for _, r := range p.Brought.Detections {
		row := detectionRow{BroughtDetection: r, By: p.promotion(api.PromoteDetection, r.ID, "")}
		if row.By == nil {
			row.By = p.promotion(api.PromoteDetection, "", "")
		}
		last, err := v.c.Store.Incidents(v.ctx, store.IncidentFilter{Detection: r.ID, Limit: 1})
		if err != nil {
			return err
		}
		if len(last) > 0 {
			row.Last = &last[0]
		}
		p.Detections = append(p.Detections, row)
	}
	return nil
}

// promotion finds the one that counts now; a promotion without a source is of
// every source.
func (p *intelligencePage) promotion(kind, value, source string) promotedID {
	for i := range p.Promotions {
		x := &p.Promotions[i]
		if x.Kind == kind && x.Value == value && (x.Source == source || x.Source == "") && (x.Ends.IsZero() || p.Now.Before(x.Ends)) {
			return x
		}
	}
	return nil
}

// LastDay reads the last day on which something counts, and gives the first
// moment at which it does not; "" is the zero time.
func LastDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("the end %q is no day: write it as 2027-01-31", text)
	}
	return day.AddDate(0, 0, 1), nil
}

func (c *Console) promote(v *visit) error {
	return v.change(func(f url.Values) error {
		ends, err := LastDay(strings.TrimSpace(f.Get("ends")))
		if err != nil {
			return err
		}
		return c.Intelligence.Promote(v.ctx, store.Promotion{Reason: f.Get("reason"), Promotion: api.Promotion{
			Kind: f.Get("kind"), Value: strings.TrimSpace(f.Get("value")), Source: strings.TrimSpace(f.Get("source")), Ends: ends}}, v.actor())
	})
}

func (c *Console) demote(v *visit) error {
	return v.change(func(f url.Values) error {
		id, err := strconv.ParseInt(v.r.PathValue("id"), 10, 64)
		if err != nil {
			return fmt.Errorf("promotion %q: %w", v.r.PathValue("id"), store.ErrNotFound)
		}
		return c.Intelligence.Demote(v.ctx, id, f.Get("reason"), v.actor())
	})
}

func (c *Console) addVEX(v *visit) error {
	return v.change(func(f url.Values) error {
		_, err := c.Statements.AddVEX(v.ctx, strings.TrimSpace(f.Get("name")), f.Get("reason"), []byte(f.Get("document")), v.actor())
		return err
	})
}

func (c *Console) removeVEX(v *visit) error {
	return v.change(func(f url.Values) error {
		return c.Statements.RemoveVEX(v.ctx, v.r.PathValue("name"), f.Get("reason"), v.actor())
	})
}

// change reads the form of who may change things, and goes back to the page.
func (v *visit) change(do func(url.Values) error) error {
	return v.changeAt(func(f url.Values) (string, error) { return "/intelligence", do(f) })
}

// changeAt reads the form of who may change things, and goes on to where do says.
func (v *visit) changeAt(do func(url.Values) (string, error)) error {
	if !v.who.MayWrite() {
		return errForbidden
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	to, err := "", v.r.ParseForm()
	if err == nil {
		to, err = do(v.r.PostForm)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return err
	case err != nil:
		return v.badRequest(err)
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}
