package report

import (
	"encoding/json"
	"io"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// JSON writes the report in its documented schema (docs/report-schema.md).
// Lists that the schema requires are never null.
func JSON(w io.Writer, r *Report) error {
	c := *r
	c.Layers = orEmpty(c.Layers)
	c.Packages = orEmpty(c.Packages)
	c.Findings = orEmpty(c.Findings)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(&c)
}

func orEmpty[T event.Finding | event.Package | Layer](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
