// Package npm finds the packages of npm, yarn, pnpm and Bun: installed ones by
// node_modules/NAME/package.json, as npm's folders(5) and package-json(5)
// describe them (pnpm's virtual store is such a folder too), those of Yarn
// Plug'n'Play in their zip archives, and locked ones in the five lock files.
package npm

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxSize = 4 << 20 // bytes; real ones stay below 200 kB

// Driver is the inventory's driver for npm.
type Driver struct{}

// Names is package.json.
func (Driver) Names() []string { return []string{"package.json"} }

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
	return purl.Append(nil, p), err
}

// Parse reads a package.json; one without name or version gives the zero
// Package.
func Parse(data []byte) (event.Package, error) {
	var m struct {
		Name     json.RawMessage `json:"name"`
		Version  json.RawMessage `json:"version"`
		License  json.RawMessage `json:"license"`
		Licenses json.RawMessage `json:"licenses"`
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := json.Unmarshal(data, &m); err != nil {
		return event.Package{}, errJSON
	}
	name, nameErr := text(m.Name)
	version, versionErr := text(m.Version)
	if nameErr != nil || versionErr != nil {
		return event.Package{}, errors.New("its name or version is not a string")
	}
	p := purl.NPM(name, strings.TrimPrefix(version, "v"))
	if p.Name != "" {
		p.Licenses = append(licenses(m.License), licenses(m.Licenses)...)
	}
	return p, nil
}

var errJSON = errors.New("is not valid JSON")

func text(raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 {
		return "", nil
	}
	err = json.Unmarshal(raw, &s)
	return strings.TrimSpace(s), err
}

// licenses reads an SPDX expression, and the older forms: an object with a
// type, or a list of either.
func licenses(raw json.RawMessage) (out []string) {
	if len(raw) == 0 {
		return nil
	}
	switch raw[0] {
	case '"':
		if s, err := text(raw); err == nil && purl.Valid(s) {
			out = append(out, s)
		}
	case '{':
		var old struct {
			Type json.RawMessage `json:"type"`
		}
		if json.Unmarshal(raw, &old) == nil && len(old.Type) > 0 && old.Type[0] == '"' {
			return licenses(old.Type)
		}
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		for _, l := range list[:min(len(list), 10)] {
			if l[0] != '[' {
				out = append(out, licenses(l)...)
			}
		}
	}
	return out
}
