package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/signature"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// scanImage reads an image of a registry, and looks in it for what the policies
// in force ask about, as agents do.
func (s *Server) scanImage(ctx context.Context, r store.Registry, client *image.Registry, exact string) (*report.Report, error) {
	set, err := s.policySet(ctx)
	if err != nil {
		return nil, err
	}
	o := scan.Options{Target: "registry:" + exact, Registry: client, Platform: r.Platform, Tool: "breakwater " + s.o.Version, Cache: s.layers, Timeout: scanWithin}
	o.Look = scan.Look{Secrets: true, Licenses: set.LooksFor(event.LookedLicenses), Programs: s.o.Malware != "" || set.LooksFor(event.LookedMalware)}
	if b := s.matcher.take(); b != nil {
		defer b.users.Done()
		o.Matcher, o.Hashes = b, b
	}
	if s.o.Malware != "" {
		engine, err := malware.OpenClamd(ctx, s.o.Malware)
		if err != nil { // what only hashes and evidence say is not what was asked for
			o.Gaps, o.Hashes = append(o.Gaps, "malware was not looked for: "+err.Error()), nil
		} else {
			o.Malware = engine
		}
	}
	if o.Trust, err = s.trust(); err != nil {
		o.Gaps = append(o.Gaps, "signatures were not looked for: "+err.Error())
	}
	return scan.Image(ctx, o)
}

// trust says whose signatures count; nil when nobody is trusted.
func (s *Server) trust() (*signature.Trust, error) {
	if s.o.Trust == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(s.o.Trust)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return signature.ParseTrust(s.o.Trust, raw)
}

// lacks says whether policy asks about what nobody looked for in an image, and
// this server can.
func (s *Server) lacks(ctx context.Context, digest string) (bool, error) {
	looked, err := s.store.Looked(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	set, err := s.policySet(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(set.Lacks(looked), s.canLookFor), nil
}

func (s *Server) canLookFor(kind string) bool {
	switch kind {
	case event.LookedMalware:
		b := s.matcher.take()
		if b != nil {
			defer b.users.Done()
		}
		return s.o.Malware != "" || b != nil && b.MalwareCount() > 0
	case event.LookedSignatures:
		t, err := s.trust()
		return err == nil && t != nil
	}
	return true
}
