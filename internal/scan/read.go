package scan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// reading is one scan's reading of one image.
type reading struct {
	Options
	key     inventory.Key
	results []*layerResult
	notes   []string
	// expected are the diff ids that an engine says the exported image has.
	expected []string
}

func newReading(o Options) *reading {
	r := &reading{Options: o}
	if o.Cache != nil {
		r.key = o.Cache.key
	} else {
		r.key = randomKey()
	}
	return r
}

// known fills in the layers that the cache holds, and says which. blobs, when not
// nil, are the digests by which the source names what it gives.
func (r *reading) known(img *image.Image, blobs []string) []bool {
	r.results = make([]*layerResult, len(img.Layers))
	known := make([]bool, len(img.Layers))
	if r.Cache == nil {
		return known
	}
	for i, l := range img.Layers {
		r.results[i] = r.Cache.get(l.DiffID, r.look())
		if r.results[i] == nil && blobs != nil {
			r.results[i] = r.Cache.get(blobs[i], r.look())
		}
		known[i] = r.results[i] != nil
	}
	return known
}

// keep puts a layer that was read into the cache, under a digest that this
// process knows it by: one that it computed, or that an engine told it. What the
// confined reader says about digests is no reason to believe its results for
// other images. The results themselves are its word.
func (r *reading) keep(digest string, result *layerResult) {
	failed := func(c event.Content) bool { return c.Failed }
	if r.Cache == nil || slices.ContainsFunc(slices.Collect(maps.Values(result.Found)), failed) {
		return // what an engine did not say now, it may say next time
	}
	if err := r.Cache.put(digest, r.look(), result); err != nil && len(r.notes) == 0 {
		r.notes = append(r.notes, "layers were not kept for the next scan: "+err.Error())
	}
}

// archive reads an image archive from f: a file, or a pipe as a stream.
func (r *reading) archive(ctx context.Context, f *os.File, req request) (*report.Report, error) {
	req.Key = r.key
	s := newSession(r.Options, req)
	if r.Cache != nil && req.Read == readArchive && !req.Verify {
		s.request.Ask, s.onImage = true, func(img *image.Image) []bool { return r.known(img, nil) }
	}
	got, err := s.run(ctx, f)
	if err != nil {
		return nil, err
	}
	img := got.image
	if img == nil {
		return nil, errors.New("the confined reader did not say what the image is; please report it")
	}
	proven, err := r.proven(ctx, f, req, img)
	if err != nil {
		return nil, err
	}
	if len(r.results) != len(img.Layers) {
		r.results = make([]*layerResult, len(img.Layers))
	}
	for i := range img.Layers {
		if result := got.layers[i]; result != nil {
			r.results[i] = result
			if proven != nil && len(img.Gaps) == 0 {
				r.keep(proven[i], result)
			}
		}
		if r.results[i] == nil {
			return nil, fmt.Errorf("layer %d: the confined reader did not answer for it; please report it", i)
		}
	}
	return r.report(img, got)
}

// proven are digests by which the layers of an archive may be kept; nil when
// there are none: only the reader says what they are.
func (r *reading) proven(ctx context.Context, f *os.File, req request, img *image.Image) ([]string, error) {
	ids := make([]string, len(img.Layers))
	for i, l := range img.Layers {
		ids[i] = l.DiffID
	}
	switch {
	case r.expected != nil: // an engine's export
		if slices.Equal(ids, r.expected) {
			return ids, nil
		}
		return nil, nil
	case !req.Verify || req.Read != readArchive || img.ConfigAt == image.Extent{}: // not asked for; a stream; compressed as a whole
		return nil, nil
	}
	return image.Proof(ctx, f, req.Size, img, r.Limits)
}

func (r *reading) report(img *image.Image, got outcome) (*report.Report, error) {
	rep, err := assemble(r.Options, r.key, img, r.results, got.gaps)
	if err != nil {
		return nil, err
	}
	rep.Notes = append(rep.Notes, append(got.notes, r.notes...)...)
	return rep, nil
}

// source reads an image layer by layer. A layer that stands in it twice is
// read once. Without layers to read there is no child at all.
func (r *reading) source(ctx context.Context, src *image.Source) (*report.Report, error) {
	img := src.Image
	if src.Mixed {
		r.Cache = nil
	}
	known := r.known(img, src.Blobs)
	digests := src.Blobs
	if digests == nil { // an engine's word
		for _, l := range img.Layers {
			digests = append(digests, l.DiffID)
		}
	}
	var todo []int
	first := map[string]int{}
	for i := range img.Layers {
		if _, twice := first[digests[i]]; !known[i] && !twice {
			first[digests[i]] = i
			todo = append(todo, i)
		}
	}
	var got outcome
	if len(todo) > 0 {
		var err error
		if got, err = readSource(ctx, newSession(r.Options, request{Key: r.key}), src, todo); err != nil {
			return nil, err
		}
	}
	for i, l := range img.Layers {
		if known[i] {
			continue
		}
		result := got.layers[first[digests[i]]]
		switch {
		case result == nil:
			return nil, fmt.Errorf("layer %d: the confined reader did not answer for it; please report it", i)
		case result.Error != "":
			return nil, fmt.Errorf("layer %d: %s", i, clean(result.Error))
		case !src.Trusted && !src.Mixed && result.DiffID != l.DiffID:
			return nil, fmt.Errorf("layer %d: its content has the digest %s, the config names %s: the image is damaged or forged", i, clean(result.DiffID), l.DiffID)
		}
		// What was not seen whole is not kept: who reads it next may see more.
		if r.results[i] = result; i == first[digests[i]] && len(got.gaps) == 0 {
			r.keep(digests[i], result)
		}
	}
	rep, err := r.report(img, got)
	if err != nil {
		return nil, err
	}
	switch {
	case src.Mixed:
	case src.Trusted:
		rep.Integrity = report.FromEngine
	default:
		rep.Integrity = report.Hashed
	}
	rep.Notes = append(rep.Notes, src.Notes...)
	return rep, nil
}

func isPipeError(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed)
}
