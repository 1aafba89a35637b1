package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// group is the same thing in one or more places, the first of which is named.
type group[T any] struct {
	first T
	all   []T
}

// grouped puts together what has the same key, in the order of the first of each.
func grouped[T any](all []T, key func(*T) string) []group[T] {
	var out []group[T]
	known := map[string]int{}
	for i := range all {
		k := key(&all[i])
		at, ok := known[k]
		if !ok {
			at = len(out)
			known[k] = at
			out = append(out, group[T]{first: all[i]})
		}
		out[at].all = append(out[at].all, all[i])
	}
	return out
}

// sameProgram is what makes packages of several files one row.
func sameProgram(p *event.Package) string {
	return strings.Join([]string{p.Ecosystem, p.Name, p.Version}, "\x00")
}

// several says whether any group has more than one place: only then is a column
// worth its width that counts them.
func several[T any](groups []group[T]) bool {
	return slices.ContainsFunc(groups, func(g group[T]) bool { return len(g.all) > 1 })
}

// places are the cells that count the places of a group and name the first.
func (g group[T]) places(path string) []cell {
	return []cell{{fmt.Sprint(len(g.all)), ""}, {path, dim}}
}

// layersOf tells layers apart only where there are several, or a build step says
// something.
func layersOf(r *Report) bool {
	return len(r.Layers) > 1 || slices.ContainsFunc(r.Layers, func(l Layer) bool { return l.Step != "" })
}

// gapsToTell are the gaps without the one that intelligence is missing: the
// closing sentence says that, once. Those of single files come last.
func (r *Report) gapsToTell() []string {
	var whole, files []string
	for _, g := range r.Gaps {
		switch {
		case r.Intelligence == nil && slices.Contains(r.Unmatched, g):
		case strings.HasPrefix(g, "layer "):
			files = append(files, g)
		default:
			whole = append(whole, g)
		}
	}
	return append(whole, files...)
}
