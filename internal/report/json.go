package report

import (
	"io"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// JSON writes the report in its documented schema (docs/report-schema.md).
// No list or map of its top level is null.
func JSON(w io.Writer, r *Report) error {
	c := *r
	c.Layers = orEmpty(c.Layers)
	c.Packages = orEmpty(c.Packages)
	c.Config.Env = orEmpty(c.Config.Env)
	c.Config.Entrypoint = orEmpty(c.Config.Entrypoint)
	c.Config.Cmd = orEmpty(c.Config.Cmd)
	c.Config.ExposedPorts = orEmpty(c.Config.ExposedPorts)
	c.Config.Volumes = orEmpty(c.Config.Volumes)
	if c.Config.Labels == nil {
		c.Config.Labels = map[string]string{}
	}
	return indented(w, Document{Report: c, Findings: ranked(r.Findings)})
}

// Document is the JSON form of a report.
type Document struct {
	Report
	// Findings, the one to look at first first.
	Findings []Ranked `json:"findings"`
}

// Ranked is a finding with the reason of its place in the list.
type Ranked struct {
	event.Finding
	Reason string `json:"reason"` // one sentence without its subject
}

func ranked(findings []event.Finding) []Ranked {
	out := make([]Ranked, len(findings))
	for i, f := range byRank(findings) {
		out[i] = Ranked{f, Reason(&f)}
	}
	return out
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
