// Package dotnet finds .NET packages: those of installed programs and runtimes
// in NAME.deps.json, which the .NET host reads to load them, and wanted ones in
// packages.lock.json, packages.config and the exact versions of project files.
// See https://learn.microsoft.com/nuget and the .NET runtime configuration
// files' specification.
package dotnet

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

var (
	errJSON = errors.New("is not valid JSON")
	errXML  = errors.New("is not valid XML")
)

func readJSON(f inventory.File, v any) error {
	data, err := lockfile.Read(f)
	if err != nil {
		return err
	}
	if json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), v) != nil {
		return errJSON
	}
	return nil
}

// Driver is the inventory's driver for programs and runtimes.
type Driver struct{}

// Names is the last extension of NAME.deps.json.
func (Driver) Names() []string { return []string{"*.json"} }

// Wants NAME.deps.json.
func (Driver) Wants(path string, _ inventory.Info) bool { return strings.HasSuffix(path, ".deps.json") }

// Extract lists packages and the runtime that a self-contained program brings;
// the program's own projects have no package.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	var m struct {
		Libraries map[string]struct{ Type string }
	}
	if err := readJSON(f, &m); err != nil {
		return nil, err
	}
	var out []event.Package
	for key, l := range m.Libraries {
		name, version, ok := strings.Cut(key, "/")
		if !ok || l.Type != "package" && l.Type != "runtimepack" {
			continue
		}
		out = purl.Append(out, purl.NuGet(strings.TrimPrefix(name, "runtimepack."), version))
	}
	return out, nil
}

// Locks is the inventory's driver for what a project wants.
type Locks struct{}

// Names are those of lock files and projects.
func (Locks) Names() []string {
	return []string{"packages.lock.json", "packages.config", "Directory.Packages.props", "*.csproj", "*.fsproj", "*.vbproj"}
}

// Wants a file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every exact version.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	if path.Base(f.Path) == "packages.lock.json" {
		return lock(f)
	}
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	out, err := references(data)
	return lockfile.Locked(out), err
}

func lock(f inventory.File) ([]event.Package, error) {
	var m struct {
		Dependencies map[string]map[string]struct{ Type, Resolved string }
	}
	if err := readJSON(f, &m); err != nil {
		return nil, err
	}
	var out []event.Package
	for _, framework := range m.Dependencies {
		for name, d := range framework {
			if d.Type != "Project" {
				out = purl.Append(out, purl.NuGet(name, d.Resolved))
			}
		}
	}
	return lockfile.Locked(out), nil
}

// references reads <package id version/> of packages.config, and
// <PackageReference Include Version/> of projects.
func references(data []byte) ([]event.Package, error) {
	var out []event.Package
	d := xml.NewDecoder(bytes.NewReader(data))
	d.Strict = false
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, errXML
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch e.Name.Local {
		case "package":
			out = purl.Append(out, exact(attribute(e, "id"), attribute(e, "version")))
		case "PackageReference", "PackageVersion", "GlobalPackageReference":
			out = purl.Append(out, exact(attribute(e, "Include"), attribute(e, "Version")))
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// exact takes 1.2.3 and [1.2.3]; ranges, wildcards and properties are none.
// (A plain version is the least that is allowed, and the one NuGet takes.)
func exact(name, version string) event.Package {
	if v, ok := strings.CutPrefix(version, "["); ok {
		version = strings.TrimSuffix(v, "]")
	}
	if version == "" || version[0] < '0' || version[0] > '9' || strings.ContainsAny(version, "*,[]()$ ") {
		return event.Package{}
	}
	return purl.NuGet(name, version)
}
