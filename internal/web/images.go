package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/advice"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

type imagesPage struct {
	Rows     []store.Image
	Filter   url.Values
	Filtered bool
	Offset   int // images before this page
	Next     string
	Previous string
}

// page links to the images from an offset on, by the same filter.
func (p imagesPage) page(offset int) string {
	q := clone(p.Filter)
	q.Del("offset")
	if offset > 0 {
		q.Set("offset", fmt.Sprint(offset))
	}
	return "/images?" + q.Encode()
}

func (c *Console) images(v *visit) error {
	q := v.r.URL.Query()
	f := store.ImageFilter{Text: q.Get("text"), Refused: q.Get("refused") != "", Running: q.Get("running") != ""}
	if s := q.Get("worst"); s != "" {
		var ok bool
		if f.Worst, ok = event.ParseSeverity(s); !ok {
			return v.badRequest(fmt.Errorf("worst %q: use negligible, low, medium, high or critical", s))
		}
	}
	offset, err := number(q, "offset")
	if err != nil {
		return v.badRequest(err)
	}
	f.Offset = int(min(offset, 1_000_000))
	p := imagesPage{Filter: q, Filtered: f != (store.ImageFilter{Offset: f.Offset}), Offset: f.Offset}
	if p.Rows, err = c.Store.Images(v.ctx, f); err != nil {
		return err
	}
	if len(p.Rows) == 50 {
		p.Next = p.page(f.Offset + 50)
	}
	if f.Offset > 0 {
		p.Previous = p.page(max(0, f.Offset-50))
	}
	return v.show(http.StatusOK, "images", "images", "Images", p)
}

// imagePage is one image: what policy says, what is in it, where it runs.
type imagePage struct {
	store.Image
	Report  report.Report
	Reasons []reason
	Running []store.Placement
	Steps   []step
	Counts  []severityCount
	Shown   []event.Finding // the worst first, at most maxFindings
	Hidden  int
	Advice  *report.Advice
	History []event.Event
	Formats []report.Format
	// Filter is a part of the names of the packages that are shown.
	Filter   string
	Packages []event.Package
	More     int // packages that are not shown
	Looked   map[string]bool
}

// maxPackages bounds a page; a filter finds the others.
const maxPackages = 2000

// maxFindings bounds a page; the API has all of them.
const maxFindings = 500

type severityCount struct {
	Severity event.Severity
	Count    int
}

// step is one layer with what came in by it.
type step struct {
	report.Layer
	Packages, Findings int
}

func (c *Console) image(v *visit) error {
	img, rep, err := c.Images.Image(v.ctx, v.r.PathValue("digest"))
	if err != nil {
		return err
	}
	p := imagePage{Image: img, Report: rep, Steps: steps(rep), Advice: advice.Of(&rep), Formats: downloads(), Filter: strings.TrimSpace(v.r.URL.Query().Get("package")), Looked: map[string]bool{}}
	if len(p.Filter) > maxSearch {
		return v.badRequest(fmt.Errorf("the filter has %d bytes: use at most %d", len(p.Filter), maxSearch))
	}
	for _, kind := range rep.Looked {
		p.Looked[kind] = true
	}
	p.choosePackages()
	if p.History, err = c.Store.Verdicts(v.ctx, img.Digest); err != nil {
		return err
	}
	if img.Verdict != nil {
		if p.Reasons, err = (finder{c: c, v: v}).violations(img.Verdict.Violations); err != nil {
			return err
		}
	}
	p.Shown, p.Hidden, p.Counts = worstFirst(rep.Findings)
	if p.Running, err = c.Store.Running(v.ctx, img.Digest); err != nil {
		return err
	}
	return v.show(http.StatusOK, "image", "images", img.Name, p)
}

// choosePackages fills in those that pass the filter.
func (p *imagePage) choosePackages() {
	for _, x := range p.Report.Packages {
		switch {
		case p.Filter != "" && !holds(x.Name, p.Filter) && !holds(x.Source, p.Filter):
		case len(p.Packages) == maxPackages:
			p.More++
		default:
			p.Packages = append(p.Packages, x)
		}
	}
}

// downloads are the formats for files; the table is for terminals.
func downloads() []report.Format {
	return slices.DeleteFunc(report.Formats(), func(f report.Format) bool { return f.Write == nil })
}

// imageDownload sends an image's report as a file.
func (c *Console) imageDownload(v *visit) error {
	img, rep, err := c.Images.Image(v.ctx, v.r.PathValue("digest"))
	if err != nil {
		return err
	}
	err = WriteReport(v.w, v.r.PathValue("format"), img, rep)
	if errors.Is(err, ErrFormat) {
		return v.badRequest(err)
	}
	return err
}

// ErrFormat is wrapped by WriteReport's error when there is no such format.
var ErrFormat = errors.New("format")

// WriteReport sends a report as a file in a format, with the newest verdict.
// Nothing was sent when there is an error.
func WriteReport(w http.ResponseWriter, format string, img store.Image, rep report.Report) error {
	f, err := report.FormatNamed(format)
	if err == nil && f.Write == nil {
		err = fmt.Errorf("%q is for terminals", format)
	}
	if err != nil {
		return fmt.Errorf("%w %w", ErrFormat, err)
	}
	rep.Verdict = img.Verdict
	var b bytes.Buffer
	if err := f.Write(&b, &rep); err != nil {
		return fmt.Errorf("report of %s as %s: %w", img.Digest, format, err)
	}
	kind, end := "application/json", "json"
	switch format {
	case "html":
		kind, end = "text/html; charset=utf-8", "html"
	case "junit":
		kind, end = "application/xml", "xml"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%s.%s"`, short(img.Digest), format, end))
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // a reader that went away is no error
	return nil
}

// worstFirst orders findings as every report does.
func worstFirst(all []event.Finding) (shown []event.Finding, hidden int, counts []severityCount) {
	shown = append(shown, all...)
	slices.SortStableFunc(shown, func(a, b event.Finding) int { return report.Order(&a, &b) })
	perRank := map[event.Severity]int{}
	for _, f := range all {
		perRank[f.Severity]++
	}
	for s, n := range perRank {
		counts = append(counts, severityCount{s, n})
	}
	sort.Slice(counts, func(i, j int) bool { return counts[i].Severity.Rank() > counts[j].Severity.Rank() })
	if len(shown) > maxFindings {
		hidden = len(shown) - maxFindings
		shown = shown[:maxFindings]
	}
	return shown, hidden, counts
}

// steps counts per layer what it brought. Packages name their layer by index
// and diff id; an index that does not fit is left out.
func steps(rep report.Report) []step {
	out := make([]step, len(rep.Layers))
	for i, l := range rep.Layers {
		out[i].Layer = l
	}
	for _, p := range rep.Packages {
		if p.LayerIndex >= 0 && p.LayerIndex < len(out) {
			out[p.LayerIndex].Packages++
		}
	}
	for _, f := range rep.Findings {
		if i := f.Package.LayerIndex; i >= 0 && i < len(out) {
			out[i].Findings++
		}
	}
	return out
}
