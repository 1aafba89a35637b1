package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/signature"
)

// imageScanner scans images with the intelligence bundle in use, for what the
// policies in force ask about. Safe for concurrent use.
type imageScanner struct {
	data     string // where the bundle and the trust file lie
	tool     string
	cache    *scan.Cache // of layers; nil for none
	policies *policies
	clamd    string          // address; "" for none
	registry *image.Registry // where signatures lie
	problem  func(topic string, err error)

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
	opts := scan.Options{Target: "docker:" + digest, Engine: "unix://" + socket, Tool: s.tool, Cache: s.cache, Registry: s.registry}
	set := s.policies.Set()
	opts.Look = scan.Look{Secrets: true, Licenses: set.LooksFor(event.LookedLicenses), Programs: s.clamd != "" || set.LooksFor(event.LookedMalware)}
	if bundle := s.take(); bundle != nil {
		defer bundle.users.Done()
		opts.Matcher, opts.Hashes = bundle, bundle
	}
	if err := s.askClamd(ctx, &opts); err != nil {
		// What only hashes and evidence say is not what was asked for.
		opts.Gaps, opts.Hashes = append(opts.Gaps, "malware was not looked for: "+err.Error()), nil
	}
	var err error
	if opts.Trust, err = s.trust(); err != nil {
		opts.Gaps = append(opts.Gaps, "signatures were not looked for: "+err.Error())
	}
	return scan.Image(ctx, opts)
}

// askClamd opens the malware engine, where there is one; o may be nil. One
// that does not answer is a standing problem too.
func (s *imageScanner) askClamd(ctx context.Context, o *scan.Options) error {
	if s.clamd == "" {
		return nil
	}
	c, err := malware.OpenClamd(ctx, s.clamd)
	if ctx.Err() == nil {
		s.problem("malware engine", err)
	}
	if err == nil && o != nil {
		o.Malware = c
	}
	return err
}

// trustFile in the data folder says whose signatures count.
const trustFile = "trust.yaml"

// trust is nil when nobody is trusted.
func (s *imageScanner) trust() (*signature.Trust, error) {
	path := filepath.Join(s.data, trustFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		s.problem("trust", nil)
		return nil, nil
	}
	var t *signature.Trust
	if err == nil {
		t, err = signature.ParseTrust(path, raw)
	}
	s.problem("trust", err)
	return t, err
}

// Lacks implements scanner: what a policy asks about, and this host can say.
func (s *imageScanner) Lacks(looked []string) []string {
	return slices.DeleteFunc(s.policies.Set().Lacks(looked), func(kind string) bool {
		switch kind {
		case event.LookedMalware:
			return s.clamd == "" && !s.knowsMalware()
		case event.LookedSignatures:
			_, err := os.Stat(filepath.Join(s.data, trustFile))
			return err != nil
		}
		return false
	})
}

// knowsMalware says whether the bundle in use knows malicious programs, and a
// policy asks about them.
func (s *imageScanner) knowsMalware() bool {
	if !s.policies.Set().LooksFor(event.LookedMalware) {
		return false
	}
	bundle := s.take()
	if bundle == nil {
		return false
	}
	defer bundle.users.Done()
	return bundle.MalwareCount() > 0
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
	r.SetMatched(findings, used, gaps)
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
