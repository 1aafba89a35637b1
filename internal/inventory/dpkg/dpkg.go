// Package dpkg finds Debian packages: dpkg's status file, and the status.d
// folder that images without dpkg carry. The format is deb-control(5) and
// dpkg(1), "package states". Which files a package installed stands in
// info/NAME.list, without dpkg in status.d/NAME.md5sums.
package dpkg

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const (
	statusFile   = "var/lib/dpkg/status"
	statusFolder = "var/lib/dpkg/status.d/"
	infoFolder   = "var/lib/dpkg/info/"
	lists        = ".list"
	sums         = ".md5sums"
	maxSize      = 32 << 20 // bytes; a full desktop has 6 MB
)

// Driver is the inventory's driver for dpkg.
type Driver struct{}

// Wants the status file, the members of status.d, and the lists of files.
func (Driver) Wants(path string, _ inventory.Info) bool {
	if path == statusFile {
		return true
	}
	name, ok := strings.CutPrefix(path, statusFolder)
	if !ok {
		name, ok = strings.CutPrefix(path, infoFolder)
		ok = ok && strings.HasSuffix(name, lists)
	}
	return ok && name != "" && !strings.Contains(name, "/")
}

// Extract lists the packages whose files are on the disk.
func (d Driver) Extract(f inventory.File) ([]event.Package, error) {
	return d.ExtractClaims(f, func(string, []byte) {})
}

// ExtractClaims implements inventory.Claimer.
func (Driver) ExtractClaims(f inventory.File, claim func(owner string, path []byte)) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return nil, err
	}
	name := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
	if owner, ok := strings.CutSuffix(name, lists); ok && strings.HasPrefix(f.Path, infoFolder) {
		owner, _, _ = strings.Cut(owner, ":") // libc6:amd64
		for line := range bytes.Lines(data) {
			claim(owner, bytes.TrimSuffix(line, []byte("\n")))
		}
		return nil, nil
	}
	if owner, ok := strings.CutSuffix(name, sums); ok && strings.HasPrefix(f.Path, statusFolder) {
		for line := range bytes.Lines(data) {
			if _, path, ok := bytes.Cut(line, []byte(" ")); ok {
				claim(owner, bytes.TrimSpace(path))
			}
		}
		return nil, nil
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
	if !purl.Valid(p.Name) || !purl.Valid(p.Version) || p.Arch != "" && !purl.Valid(p.Arch) {
		return p, false, fmt.Errorf("the fields of the paragraph of %q are no names", p.Name)
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

// Place names the ecosystem and gives the purl its distribution.
func (Driver) Place(p *event.Package, d inventory.Distro) {
	p.Ecosystem = d.Ecosystem("Debian")
	id := d.ID
	if id == "" {
		id = "debian"
	}
	p.PURL = purl.System(packageurl.TypeDebian, id, d.Version, p.Name, p.Version, p.Arch)
}
