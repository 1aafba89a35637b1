// Package npm finds installed npm packages: node_modules/NAME/package.json,
// as npm's folders(5) and package-json(5) describe them. Lock files list what
// somebody wanted, not what is there, and are not read.
package npm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
)

const maxSize = 4 << 20 // bytes; real ones stay below 200 kB

// Driver is the inventory's driver for npm.
type Driver struct{}

// Wants the package.json directly in a package's folder.
func (Driver) Wants(path string, _ inventory.Info) bool {
	dir, ok := strings.CutSuffix(path, "/package.json")
	if !ok {
		return false
	}
	i := strings.LastIndex(dir, "node_modules/")
	if i < 0 || i > 0 && dir[i-1] != '/' {
		return false
	}
	name := dir[i+len("node_modules/"):]
	depth := strings.Count(name, "/")
	return depth == 0 && name != "" || depth == 1 && name[0] == '@'
}

// Extract lists the one package of a package.json; one without name or
// version marks a folder, not a package.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return nil, err
	}
	p, err := Parse(data)
	if err != nil || p.Name == "" || p.Version == "" {
		return nil, err
	}
	return []event.Package{p}, nil
}

// Parse reads a package.json; Name or Version may be empty in its result.
func Parse(data []byte) (event.Package, error) {
	var m struct {
		Name    json.RawMessage `json:"name"`
		Version json.RawMessage `json:"version"`
		License json.RawMessage `json:"license"`
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := json.Unmarshal(data, &m); err != nil {
		return event.Package{}, errors.New("is not valid JSON")
	}
	name, nameErr := text(m.Name)
	version, versionErr := text(m.Version)
	if nameErr != nil || versionErr != nil {
		return event.Package{}, errors.New("its name or version is not a string")
	}
	p := event.Package{Name: name, Version: strings.TrimPrefix(version, "v"), Ecosystem: "npm"}
	if license, err := text(m.License); err == nil && license != "" {
		p.Licenses = []string{license}
	}
	p.PURL = purl(p.Name, p.Version)
	return p, nil
}

func text(raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 {
		return "", nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("not a string: %w", err)
	}
	return strings.TrimSpace(s), nil
}

func purl(name, version string) string {
	namespace, base := "", name
	if scope, rest, ok := strings.Cut(name, "/"); ok {
		namespace, base = scope, rest
	}
	return packageurl.NewPackageURL(packageurl.TypeNPM, namespace, base, version, nil, "").ToString()
}
