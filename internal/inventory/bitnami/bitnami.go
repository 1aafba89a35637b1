// Package bitnami finds the components of Bitnami's images by the SPDX 2.3
// document that lies beside each: opt/bitnami/NAME/.spdx-NAME.spdx. Bitnami's
// own vulnerability database names the component itself; what the document
// says to be inside is found by its own evidence.
package bitnami

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxDocument = 16 << 20 // bytes

// Driver is the inventory's driver for these documents.
type Driver struct{}

// Names is the documents' extension.
func (Driver) Names() []string { return []string{"*.spdx"} }

// Wants the hidden documents below opt/bitnami.
func (Driver) Wants(path string, _ inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	return strings.HasPrefix(path, "opt/bitnami/") && strings.HasPrefix(path[i+1:], ".spdx-")
}

// Extract lists the packages with a purl of Bitnami's.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxDocument)
	if err != nil {
		return nil, err
	}
	var m struct {
		Packages []struct {
			LicenseDeclared string
			ExternalRefs    []struct{ ReferenceType, ReferenceLocator string }
		}
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	var out []event.Package
	for _, p := range m.Packages {
		for _, r := range p.ExternalRefs {
			found := component(r.ReferenceType, r.ReferenceLocator)
			if l := p.LicenseDeclared; found.Name != "" && purl.Valid(l) && l != "NOASSERTION" && l != "NONE" {
				found.Licenses = []string{l}
			}
			out = purl.Append(out, found)
		}
	}
	return out, nil
}

func component(kind, locator string) event.Package {
	if kind != "purl" || !strings.HasPrefix(locator, "pkg:bitnami/") || len(locator) > 1024 {
		return event.Package{}
	}
	u, err := packageurl.FromString(locator)
	if err != nil {
		return event.Package{}
	}
	return purl.Bitnami(u.Name, u.Version, u.Qualifiers.Map()["arch"])
}
