// Package perl finds the Perl distributions that cpanm installed, by the
// install.json that it leaves in .meta/NAME-VERSION. CPAN's older tools leave
// no version behind.
package perl

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxRecord = 4 << 20 // bytes

// Driver is the inventory's driver for them.
type Driver struct{}

// Names is install.json.
func (Driver) Names() []string { return []string{"install.json"} }

// Wants the records below .meta.
func (Driver) Wants(path string, _ inventory.Info) bool { return strings.Contains(path, "/.meta/") }

// Extract reads pathname (A/AU/AUTHOR/NAME-VERSION.tar.gz) and dist.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxRecord)
	if err != nil {
		return nil, err
	}
	var m struct{ Dist, Pathname string }
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	i := strings.LastIndexByte(m.Dist, '-')
	if i <= 0 {
		return nil, nil
	}
	author := ""
	if part := strings.Split(m.Pathname, "/"); len(part) >= 4 {
		author = part[len(part)-2]
	}
	return purl.Append(nil, purl.CPAN(author, m.Dist[:i], strings.TrimPrefix(m.Dist[i+1:], "v"))), nil
}
