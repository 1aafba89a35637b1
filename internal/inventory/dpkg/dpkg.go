// Package dpkg finds Debian packages: dpkg's status file, and the status.d
// folder that images without dpkg carry. The format is deb-control(5) and
// dpkg(1), "package states".
package dpkg

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
)

const (
	statusFile   = "var/lib/dpkg/status"
	statusFolder = "var/lib/dpkg/status.d/"
	maxSize      = 32 << 20 // bytes; a full desktop has 6 MB
)

// Driver is the inventory's driver for dpkg.
type Driver struct{}

// Wants the status file and the members of status.d, without their checksums.
func (Driver) Wants(path string, _ inventory.Info) bool {
	if path == statusFile {
		return true
	}
	name, ok := strings.CutPrefix(path, statusFolder)
	return ok && name != "" && !strings.Contains(name, "/") && !strings.HasSuffix(name, ".md5sums")
}

// Extract lists the packages whose files are on the disk.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse reads paragraphs separated by empty lines. A paragraph that cannot be
// used is counted in the error; the others are returned.
func Parse(data []byte) ([]event.Package, error) {
	var out []event.Package
	bad, first := 0, ""
	for len(data) > 0 {
		var paragraph []byte
		paragraph, data = nextParagraph(data)
		p, ok, err := parseParagraph(paragraph)
		switch {
		case err != nil:
			if bad++; bad == 1 {
				first = err.Error()
			}
		case ok:
			out = append(out, p)
		}
	}
	if bad > 0 {
		return out, fmt.Errorf("%d paragraphs are not usable, the first one: %s", bad, first)
	}
	return out, nil
}

func nextParagraph(data []byte) (paragraph, rest []byte) {
	data = bytes.TrimLeft(data, "\r\n")
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return data[:i], data[i+2:]
	}
	return data, nil
}

func parseParagraph(data []byte) (p event.Package, ok bool, err error) {
	var status, source string
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte("\n"))
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' || line[0] == '#' {
			continue // the value of the field above goes on
		}
		switch key, value := field(line); {
		case isField(key, "Package"):
			p.Name = value()
		case isField(key, "Version"):
			p.Version = value()
		case isField(key, "Architecture"):
			p.Arch = value()
		case isField(key, "Status"):
			status = value()
		case isField(key, "Source"):
			source = value()
		}
	}
	if p.Name == "" && p.Version == "" && status == "" || !onDisk(status) {
		return p, false, nil
	}
	if p.Name == "" || p.Version == "" {
		return p, false, fmt.Errorf("no Package or no Version field in the paragraph of %q", p.Name+p.Version)
	}
	p.Source, p.SourceVersion = sourceOf(source)
	if p.Source == p.Name {
		p.Source = ""
	}
	return p, true, nil
}

// field splits a line; the value is made into a string only when it is asked for.
func field(line []byte) (key []byte, value func() string) {
	key, v, _ := bytes.Cut(line, []byte(":"))
	return key, func() string { return string(bytes.TrimSpace(v)) }
}

func isField(key []byte, name string) bool {
	return len(key) == len(name) && strings.EqualFold(string(key), name)
}

// onDisk reads "want error state". Members of status.d have no status.
func onDisk(status string) bool {
	words := strings.Fields(status)
	if len(words) == 0 {
		return true
	}
	switch words[len(words)-1] {
	case "not-installed", "config-files":
		return false
	}
	return true
}

// sourceOf reads "name" or "name (version)".
func sourceOf(s string) (name, version string) {
	name, rest, ok := strings.Cut(s, "(")
	if ok {
		version, _, _ = strings.Cut(rest, ")")
	}
	return strings.TrimSpace(name), strings.TrimSpace(version)
}

// Place names the ecosystem as OSV does and gives the purl its distribution.
func (Driver) Place(p *event.Package, d inventory.Distro) {
	id := d.ID
	if id == "" {
		id = "debian"
	}
	p.Ecosystem = ecosystem(id, d.Version)
	var q packageurl.Qualifiers
	if p.Arch != "" {
		q = append(q, packageurl.Qualifier{Key: "arch", Value: p.Arch})
	}
	if d.Version != "" {
		q = append(q, packageurl.Qualifier{Key: "distro", Value: id + "-" + d.Version})
	}
	p.PURL = packageurl.NewPackageURL(packageurl.TypeDebian, id, p.Name, p.Version, q, "").ToString()
}

// ecosystem: "Debian:12", "Ubuntu:22.04"; other derivatives keep their own id,
// because Debian's advisories do not speak about their versions.
func ecosystem(id, version string) string {
	names := map[string]string{"debian": "Debian", "ubuntu": "Ubuntu"}
	name, ok := names[id]
	if !ok {
		name = id
	}
	if version == "" {
		return name
	}
	return name + ":" + version
}
