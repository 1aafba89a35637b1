// Package wordpress finds plugins and themes of WordPress by the header that
// WordPress itself reads: that of a PHP file directly in a plugin's folder, of
// style.css in a theme's (developer.wordpress.org, "Header Requirements").
package wordpress

import (
	"bytes"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const (
	maxFile = 4 << 20 // bytes
	header  = 8 << 10 // bytes that WordPress reads
)

// Driver is the inventory's driver for them.
type Driver struct{}

// Names are the extensions of the files with headers.
func (Driver) Names() []string { return []string{"*.php", "style.css"} }

// Wants wp-content/plugins/SLUG/*.php and wp-content/themes/SLUG/style.css.
func (Driver) Wants(path string, _ inventory.Info) bool {
	kind, slug := place(path)
	return slug != "" && (kind == "plugin") == strings.HasSuffix(path, ".php")
}

func place(path string) (kind, slug string) {
	i := strings.LastIndex(path, "wp-content/")
	if i < 0 || i > 0 && path[i-1] != '/' {
		return "", ""
	}
	rest, ok := strings.CutPrefix(path[i:], "wp-content/plugins/")
	kind = "plugin"
	if !ok {
		if rest, ok = strings.CutPrefix(path[i:], "wp-content/themes/"); !ok {
			return "", ""
		}
		kind = "theme"
	}
	slug, file, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(file, "/") {
		return "", ""
	}
	return kind, slug
}

// Extract lists the plugin or theme; other files have no header.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxFile)
	if err != nil {
		return nil, err
	}
	kind, slug := place(f.Path)
	name, version, license := "", "", ""
	for raw := range bytes.Lines(data[:min(len(data), header)]) {
		key, value, ok := strings.Cut(strings.TrimLeft(string(raw), " \t/*#@"), ":")
		value = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "*/"))
		switch {
		case !ok:
		case key == "Plugin Name" && kind == "plugin", key == "Theme Name" && kind == "theme":
			name = value
		case key == "Version" && version == "":
			version = value
		case key == "License":
			license = value
		}
	}
	if name == "" {
		return nil, nil
	}
	p := purl.WordPress(kind, slug, version)
	if p.Name != "" && purl.Valid(license) && len(license) <= 80 {
		p.Licenses = []string{license}
	}
	return purl.Append(nil, p), nil
}
