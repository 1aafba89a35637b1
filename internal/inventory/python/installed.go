// Package python finds Python distributions: installed ones by the metadata
// folders of the core metadata specification (*.dist-info/METADATA,
// *.egg-info, EGG-INFO) and in zipped eggs; locked ones in the lock files of
// pip, Pipenv, Poetry, uv and PDM and in pylock.toml (PEP 751). Copies that a
// distribution carries inside (pip/_vendor) are installed ones too. Wheels that
// merely lie around are not.
package python

import (
	"bytes"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
	"github.com/breakwater-sec/breakwater/internal/inventory/zipdir"
)

const maxMetadata = 8 << 20 // bytes; it holds the whole README

// Driver is the inventory's driver for installed distributions.
type Driver struct{}

// Names are those of the metadata files, and zipped eggs.
func (Driver) Names() []string { return []string{"METADATA", "PKG-INFO", "*.egg-info", "*.egg"} }

// Wants metadata in its place.
func (Driver) Wants(path string, _ inventory.Info) bool {
	if dir, ok := strings.CutSuffix(path, "/METADATA"); ok {
		return strings.HasSuffix(dir, ".dist-info")
	}
	if dir, ok := strings.CutSuffix(path, "/PKG-INFO"); ok {
		return strings.HasSuffix(dir, ".egg-info") || strings.HasSuffix(dir, "/EGG-INFO")
	}
	return strings.HasSuffix(path, ".egg-info") || strings.HasSuffix(path, ".egg")
}

// Extract lists the one distribution.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	if strings.HasSuffix(f.Path, ".egg") {
		return egg(f)
	}
	data, err := inventory.ReadAll(f, maxMetadata)
	if err != nil {
		return nil, err
	}
	return purl.Append(nil, metadata(data)), nil
}

func egg(f inventory.File) ([]event.Package, error) {
	at, err := zipdir.Content(f)
	if err != nil {
		return nil, err
	}
	dir, err := zipdir.Open(at, f.Size, 4*maxMetadata)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	err = dir.Each(func(name []byte) bool { return string(name) == "EGG-INFO/PKG-INFO" }, func(e zipdir.Entry) error {
		data, err := dir.Read(e, maxMetadata)
		out = purl.Append(out, metadata(data))
		return err
	})
	return out, err
}

// metadata reads the header fields; the description follows an empty line.
func metadata(data []byte) event.Package {
	var name, version, expression, license string
	var classified []string
	for raw := range bytes.Lines(data) {
		line := strings.TrimRight(string(raw), "\r\n")
		if line == "" {
			break
		}
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "name":
			name = value
		case "version":
			version = value
		case "license-expression":
			expression = value
		case "license":
			license = value
		case "classifier":
			if l, ok := strings.CutPrefix(value, "License :: "); ok {
				classified = append(classified, l[strings.LastIndex(l, ":")+1:])
			}
		}
	}
	p := purl.PyPI(name, version)
	if p.Name != "" {
		p.Licenses = stated(expression, license, classified)
	}
	return p
}

// stated prefers the expression; "License" may be a whole licence text, whose
// first line is no name, and classifiers name a licence in words.
func stated(expression, license string, classified []string) (out []string) {
	const longName = 80
	switch {
	case purl.Valid(expression):
		return []string{expression}
	case purl.Valid(license) && len(license) <= longName && license != "UNKNOWN":
		return []string{license}
	}
	for _, c := range classified[:min(len(classified), 10)] {
		if c = strings.TrimSpace(c); purl.Valid(c) && c != "OSI Approved" {
			out = append(out, c)
		}
	}
	return out
}
