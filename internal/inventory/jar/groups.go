package jar

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// Groups is the table of artifacts whose archives state no group.
type Groups struct{ entries []groupEntry }

type groupEntry struct {
	group              string
	artifacts, folders []string
}

// EmbeddedGroups reads the table that this binary carries. That takes
// milliseconds, so callers do it once, when they need it.
func EmbeddedGroups() *Groups {
	const name = "artifacts.yaml"
	data, err := fs.ReadFile(content.Programs(), name)
	if err != nil { // it is ours, and tests read it
		panic(err)
	}
	g, err := ParseGroups(name, data)
	if err != nil {
		panic(err)
	}
	return g
}

// ParseGroups reads a table. Errors name the file and the line.
func ParseGroups(name string, data []byte) (*Groups, error) {
	docs, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: must be one document, not %d", name, len(docs))
	}
	g := &Groups{}
	r := document.NewReader(name)
	r.Value(docs[0]).Map(document.Fields{
		"apiVersion": func(v document.Value) { v.Word("breakwater/v1") },
		"kind":       func(v document.Value) { v.Word("Artifacts") },
		"artifacts": func(v document.Value) {
			v.List(2000, func(v document.Value) {
				var e groupEntry
				v.Map(document.Fields{
					"group":     func(v document.Value) { e.group = v.String() },
					"artifacts": func(v document.Value) { e.artifacts = v.Strings(50) },
					"folders":   func(v document.Value) { e.folders = v.Strings(10) },
				})
				v.Require("group", "artifacts", "folders")
				g.entries = append(g.entries, e)
			})
		},
	})
	return g, r.Err()
}

func (e *groupEntry) has(artifact string) bool {
	for _, a := range e.artifacts {
		if stem, open := strings.CutSuffix(a, "*"); artifact == a || open && strings.HasPrefix(artifact, stem) {
			return true
		}
	}
	return false
}

// folders are those of all entries that have the artifact, in their order.
func (g *Groups) folders(artifact string) (out []string) {
	for i := range g.entries {
		if g.entries[i].has(artifact) {
			out = append(out, g.entries[i].folders...)
		}
	}
	return out
}

// group is that of the first entry one of whose folders was seen; seen is
// parallel to folders.
func (g *Groups) group(artifact string, seen []bool) string {
	for i := range g.entries {
		e := &g.entries[i]
		if !e.has(artifact) {
			continue
		}
		for _, s := range seen[:len(e.folders)] {
			if s {
				return e.group
			}
		}
		seen = seen[len(e.folders):]
	}
	return ""
}
