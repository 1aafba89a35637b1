package report

import (
	"encoding/json"
	"io"
)

// JSON writes the report in its documented schema (docs/report-schema.md).
// No list or map of its top level is null.
func JSON(w io.Writer, r *Report) error {
	c := *r
	c.Layers = orEmpty(c.Layers)
	c.Packages = orEmpty(c.Packages)
	c.Findings = orEmpty(c.Findings)
	c.Config.Env = orEmpty(c.Config.Env)
	c.Config.Entrypoint = orEmpty(c.Config.Entrypoint)
	c.Config.Cmd = orEmpty(c.Config.Cmd)
	c.Config.ExposedPorts = orEmpty(c.Config.ExposedPorts)
	c.Config.Volumes = orEmpty(c.Config.Volumes)
	if c.Config.Labels == nil {
		c.Config.Labels = map[string]string{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(&c)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
