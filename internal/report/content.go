package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// malware and secrets list what was found by looking into files.
func (t *table) malware(all []event.Malware) {
	var rows [][]cell
	for _, m := range worst(all, func(m event.Malware) event.Severity { return m.Severity }) {
		rows = append(rows, []cell{{string(m.Severity), severityColour(m.Severity)}, {m.Name, ""}, {m.Engine, dim}, {place(m.Place), ""}, {layerIn(m.Place), dim}})
	}
	t.grid([]string{"SEVERITY", "MALWARE", "ENGINE", "IN", "LAYER"}, rows)
}

func (t *table) secrets(all []event.Secret) {
	var rows [][]cell
	if len(all) > manySecrets && !t.all {
		for _, g := range grouped(worst(all, func(s event.Secret) event.Severity { return s.Severity }), func(s *event.Secret) string { return s.Rule }) {
			s := g.first
			rows = append(rows, append([]cell{{string(s.Severity), severityColour(s.Severity)}, {s.Title, ""}}, g.places(place(s.Place))...))
		}
		t.grid([]string{"SEVERITY", "SECRET", "PLACES", "FIRST IN"}, rows)
		t.line("%s", t.paint(fmt.Sprintf("%d secrets, by kind; --all names each", len(all)), dim))
		return
	}
	for _, s := range worst(all, func(s event.Secret) event.Severity { return s.Severity }) {
		rows = append(rows, []cell{{string(s.Severity), severityColour(s.Severity)}, {s.Title, ""}, {s.Excerpt, dim}, {place(s.Place), ""}, {layerIn(s.Place), dim}})
	}
	t.grid([]string{"SEVERITY", "SECRET", "VALUE", "IN", "LAYER"}, rows)
}

// worst is a copy with the most severe first, else in the order given.
func worst[T any](all []T, severity func(T) event.Severity) []T {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b T) int { return cmp.Compare(severity(b).Rank(), severity(a).Rank()) })
	return all
}

// place is where something was found, for people.
func place(p event.Place) string {
	switch {
	case p.Kind == event.PlaceEnv:
		return "environment variable " + p.Path
	case p.Kind == event.PlaceLabel:
		return "label " + p.Path
	case p.Kind == event.PlaceHistory:
		return "build step " + p.Path
	case p.Kind == event.PlaceCommand:
		return "configured " + p.Path
	case p.Line > 0:
		return fmt.Sprintf("%s:%d", p.Path, p.Line)
	}
	return p.Path
}

func layerIn(p event.Place) string {
	switch {
	case p.Kind != event.PlaceFile:
		return ""
	case p.Deleted:
		return fmt.Sprintf("%d, removed later", p.LayerIndex)
	}
	return fmt.Sprint(p.LayerIndex)
}
