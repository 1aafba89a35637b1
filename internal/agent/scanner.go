package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// imageScanner scans images with the intelligence bundle in use. Safe for
// concurrent use.
type imageScanner struct {
	data  string // where the bundle lies
	tool  string
	cache *scan.Cache // of layers; nil for none

	mu      sync.Mutex
	bundle  *usedBundle // nil when there is none
	version string      // target of the link that bundle was opened by
}

// usedBundle is closed when a newer one took its place and nobody uses it.
type usedBundle struct {
	*intel.Bundle
	users sync.WaitGroup // added to under the scanner's mu, while it is the one in use
}

// Scan implements scanner.
func (s *imageScanner) Scan(ctx context.Context, socket, digest, name string) (*report.Report, error) {
	if socket == "" {
		return nil, fmt.Errorf("image %s: no engine of this host can hand it out", name)
	}
	opts := scan.Options{Target: "docker:" + digest, Engine: "unix://" + socket, Tool: s.tool, Cache: s.cache}
	if bundle := s.take(); bundle != nil {
		defer bundle.users.Done()
		opts.Matcher = bundle
	}
	return scan.Image(ctx, opts)
}

// match gives a report the findings of the bundle in use.
func (s *imageScanner) match(ctx context.Context, r *report.Report) error {
	bundle := s.take()
	if bundle == nil {
		return nil
	}
	defer bundle.users.Done()
	findings, used, gaps, err := bundle.Match(ctx, r.Distro, r.Packages)
	if err != nil {
		return fmt.Errorf("image %s: %w", r.Image.Name(), err)
	}
	r.Findings, r.Intelligence, r.Gaps = findings, used, gaps
	return nil
}

// take gives the bundle in use, nil when there is none; the caller says Done
// to its users.
func (s *imageScanner) take() *usedBundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle != nil {
		s.bundle.users.Add(1)
	}
	return s.bundle
}

// refresh opens the bundle that lies on disk when it is another one than
// before; changed says so. The one before is closed when the last scan that uses
// it ends.
func (s *imageScanner) refresh(ctx context.Context) (changed bool, err error) {
	target, err := os.Readlink(filepath.Join(s.data, "intel", "current"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	same := target == s.version
	s.mu.Unlock()
	if same {
		return false, nil
	}
	bundle, err := intel.Open(ctx, s.data)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	old := s.bundle
	s.bundle, s.version = &usedBundle{Bundle: bundle}, target
	s.mu.Unlock()
	if old != nil {
		go func() {
			old.users.Wait()
			_ = old.Close() // it was only read
		}()
	}
	return true, nil
}

// state is the version of the bundle in use and when it was built.
func (s *imageScanner) state() (version string, built time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle == nil {
		return "", time.Time{}
	}
	m := s.bundle.Manifest()
	return m.Version, m.Built
}
