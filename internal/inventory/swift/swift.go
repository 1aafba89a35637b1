// Package swift finds the packages that Swift projects pin: Package.resolved of
// the Swift Package Manager (its versions 1 to 3), and Podfile.lock of
// CocoaPods.
package swift

import (
	"encoding/json"
	"errors"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for both.
type Locks struct{}

// Names are those of the files.
func (Locks) Names() []string { return []string{"Package.resolved", "Podfile.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every pinned package; one pinned to a branch has no version.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	if path.Base(f.Path) == "Podfile.lock" {
		return lockfile.Locked(pods(data)), nil
	}
	out, err := resolved(data)
	return lockfile.Locked(out), err
}

type pin struct {
	Location string // since version 2
	URL      string `json:"repositoryURL"` // version 1
	State    struct{ Version string }
}

func resolved(data []byte) ([]event.Package, error) {
	var m struct {
		Pins   []pin
		Object struct{ Pins []pin }
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	var out []event.Package
	for _, p := range append(m.Pins, m.Object.Pins...) {
		out = purl.Append(out, purl.Swift(p.Location+p.URL, p.State.Version))
	}
	return out, nil
}

// pods reads "- Name/Subspec (1.0):" under PODS; what stands deeper are
// requirements.
func pods(data []byte) []event.Package {
	var out []event.Package
	inside := false
	for l := range lockfile.Outline(data) {
		if l.Indent == 0 {
			inside = l.Key == "PODS"
			continue
		}
		if !inside || !l.Item || l.Indent > 4 {
			continue
		}
		name, version, ok := strings.Cut(l.Key+l.Value, " (")
		name, _, _ = strings.Cut(name, "/")
		if ok {
			out = purl.Append(out, purl.CocoaPods(name, strings.TrimSuffix(version, ")")))
		}
	}
	return out
}
