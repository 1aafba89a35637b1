// Package gem finds Ruby gems: installed ones by the specification that
// RubyGems writes for each, specifications/NAME-VERSION.gemspec and those of
// Ruby's own gems in specifications/default, and locked ones in Bundler's
// Gemfile.lock (gems.locked).
package gem

import (
	"bytes"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxSpec = 4 << 20 // bytes

// Driver is the inventory's driver for installed gems.
type Driver struct{}

// Names is the extension of specifications.
func (Driver) Names() []string { return []string{"*.gemspec"} }

// Wants the specifications of installed gems, not those inside of gems.
func (Driver) Wants(path string, _ inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return false
	}
	dir := strings.TrimSuffix(path[:i], "/default")
	return dir == "specifications" || strings.HasSuffix(dir, "/specifications")
}

// Extract reads the gem's name, version and platform.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSpec)
	if err != nil {
		return nil, err
	}
	var name, version, platform string
	var licenses []string
	for raw := range bytes.Lines(data) {
		line := strings.TrimSpace(string(raw))
		if stub, ok := strings.CutPrefix(line, "# stub: "); ok && name == "" {
			if f := strings.Fields(stub); len(f) >= 3 { // name version platform paths
				name, version, platform = f[0], f[1], f[2]
			}
			continue
		}
		attribute, value, ok := assignment(line)
		switch {
		case !ok:
		case attribute == "name" && name == "":
			name = quoted(value)
		case attribute == "version" && version == "":
			version = quoted(value)
		case attribute == "licenses" || attribute == "license":
			licenses = list(value)
		}
	}
	p := purl.Gem(name, version, platform)
	if p.Name != "" {
		p.Licenses = licenses
	}
	return purl.Append(nil, p), nil
}

// assignment reads s.name = value.
func assignment(line string) (attribute, value string, ok bool) {
	left, right, ok := strings.Cut(line, "=")
	_, attribute, dot := strings.Cut(strings.TrimSpace(left), ".")
	return attribute, right, ok && dot
}

// quoted is the first string in a Ruby expression: "x".freeze,
// Gem::Version.new("1").
func quoted(expression string) string {
	i := strings.IndexAny(expression, `"'`)
	if i < 0 {
		return ""
	}
	rest := expression[i+1:]
	end := strings.IndexByte(rest, expression[i])
	if end < 0 {
		return ""
	}
	return rest[:end]
}

func list(expression string) (out []string) {
	for range 10 {
		s := quoted(expression)
		if s == "" {
			return out
		}
		if purl.Valid(s) {
			out = append(out, s)
		}
		expression = expression[strings.Index(expression, s)+len(s)+1:]
	}
	return out
}

// Locks is the inventory's driver for Bundler's lock file.
type Locks struct{}

// Names are those of the lock file.
func (Locks) Names() []string { return []string{"Gemfile.lock", "gems.locked"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(file string, _ inventory.Info) bool {
	return !lockfile.Noise(file)
}

// Extract lists the gems under "specs:" with four blanks before them; what
// stands deeper are their requirements. Gems of a folder (PATH) are left out.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	section := ""
	for raw := range bytes.Lines(data) {
		line := strings.TrimRight(string(raw), "\r\n")
		if line != "" && line[0] != ' ' {
			section = line
			continue
		}
		entry, ok := strings.CutPrefix(line, "    ")
		if !ok || strings.HasPrefix(entry, " ") || section != "GEM" && section != "GIT" {
			continue
		}
		name, version, ok := strings.Cut(strings.TrimSuffix(entry, ")"), " (")
		if !ok {
			continue
		}
		version, platform, _ := strings.Cut(version, "-") // versions of gems have no dash
		out = purl.Append(out, purl.Gem(name, version, platform))
	}
	return lockfile.Locked(out), nil
}
