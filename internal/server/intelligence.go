package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// intelEvery is how often the server looks for a new bundle on disk. A look
// reads one symbolic link.
const intelEvery = 5 * time.Second

// handouts are the bundles that agents get: the one in use, and the one before
// for those that are in the middle of it. Safe for concurrent use.
type handouts struct {
	data string // the folder that bundles lie in; "": none are handed out

	mu     sync.Mutex
	link   string // target of the link that newest was opened by
	newest *intel.Handout
	before *intel.Handout
}

// refresh opens the bundle that lies on disk when it is another one than before.
func (h *handouts) refresh() error {
	link, err := os.Readlink(filepath.Join(h.data, "intel", "current"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	h.mu.Lock()
	same := link == h.link
	h.mu.Unlock()
	if err != nil || same {
		return err
	}
	opened, err := intel.OpenHandout(h.data) // reads all of it
	if err != nil {
		return err
	}
	h.mu.Lock()
	old := h.before
	h.before, h.newest, h.link = h.newest, opened, link
	h.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (h *handouts) id() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.newest == nil {
		return ""
	}
	return h.newest.ID
}

// part is read with mu held: a bundle is closed with it held too, and a read of
// a part is short.
func (h *handouts) part(bundle string, offset int64) (p api.IntelligencePart, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, have := range []*intel.Handout{h.newest, h.before} {
		if have == nil || have.ID != bundle {
			continue
		}
		if offset == 0 {
			p.Manifest, p.Signature = have.Manifest, have.Signature
		}
		p.Data, err = have.Part(offset, api.MaxIntelligencePart)
		return p, err
	}
	return p, fmt.Errorf("intelligence bundle %.12q is not handed out, or no longer: ask for the newest", bundle)
}

func (h *handouts) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, have := range []*intel.Handout{h.newest, h.before} {
		if have != nil {
			errs = append(errs, have.Close())
		}
	}
	h.newest, h.before = nil, nil
	return errors.Join(errs...)
}

// keepHandouts takes up new bundles until ctx ends.
func (s *Server) keepHandouts(ctx context.Context) error {
	if s.o.Intelligence == "" {
		return nil
	}
	tick := time.NewTicker(intelEvery)
	defer tick.Stop()
	told := ""
	for {
		switch err := s.handouts.refresh(); {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			s.o.Log.Error("intelligence is not handed out to agents", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Intelligence is a part of the bundle that agents get.
func (s *Server) Intelligence(_ context.Context, _ string, r api.IntelligenceRequest) (api.IntelligencePart, error) {
	return s.handouts.part(r.Bundle, r.Offset)
}
