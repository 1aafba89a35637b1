// Package conan finds the C and C++ packages that conan.lock pins, in the forms
// of Conan 1 (a graph) and 2 (lists of references); see https://docs.conan.io.
package conan

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for conan.lock.
type Locks struct{}

// Names is conan.lock.
func (Locks) Names() []string { return []string{"conan.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every pinned package, those for building too.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var m struct {
		Graph struct {
			Nodes map[string]struct{ Ref string }
		} `json:"graph_lock"`
		Requires       []string `json:"requires"`
		BuildRequires  []string `json:"build_requires"`
		PythonRequires []string `json:"python_requires"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	references := append(append(m.Requires, m.BuildRequires...), m.PythonRequires...)
	for _, n := range m.Graph.Nodes {
		references = append(references, n.Ref)
	}
	var out []event.Package
	for _, r := range references {
		out = purl.Append(out, reference(r))
	}
	return lockfile.Locked(out), nil
}

// reference reads name/version[@user/channel][#revision][%time].
func reference(r string) event.Package {
	r, _, _ = strings.Cut(r, "#")
	r, _, _ = strings.Cut(r, "%")
	r, owner, _ := strings.Cut(r, "@")
	name, version, _ := strings.Cut(r, "/")
	user, channel, _ := strings.Cut(owner, "/")
	return purl.Conan(name, version, user, channel)
}
