package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Result is the inventory of a whole image.
type Result struct {
	Distro   Distro
	Packages []event.Package // sorted by ecosystem, name, version, path
	Gaps     []string
}

// Merge lays the layers over each other, the base first, and keeps what the
// last one still shows. Each package carries the layer that brought it: the
// first of the unbroken run of layers in which its file proves the same name,
// version and architecture. (A layer that only rewrites dpkg's status brings
// just what it added.) The caller fills in Layer and Step from LayerIndex.
func (e *Engine) Merge(layers []*Layer) Result {
	for _, l := range layers {
		slices.Sort(l.present)
		slices.Sort(l.dirs)
		l.settle()
	}
	var r Result
	r.Distro = distro(layers)
	owners, claimers := map[int]string{}, map[int]bool{} // by place in r.Packages
	for i, l := range layers {
		r.Gaps = append(r.Gaps, l.gapList(i)...)
		for path, ev := range l.found {
			if ev.driver == nil || hidden(layers[i+1:], path) {
				continue
			}
			_, claimer := ev.driver.(Claimer)
			for _, p := range finish(layers, i, path, ev, r.Distro) {
				if claimer {
					claimers[len(r.Packages)] = true
				} else if ev.owner != "" {
					owners[len(r.Packages)] = ev.owner
				}
				r.Packages = append(r.Packages, p)
			}
		}
	}
	own(r.Packages, owners, claimers)
	slices.SortFunc(r.Packages, order)
	return r
}

func order(a, b event.Package) int {
	return cmp.Or(strings.Compare(a.Ecosystem, b.Ecosystem), strings.Compare(a.Name, b.Name),
		strings.Compare(a.Version, b.Version), strings.Compare(a.Path, b.Path), strings.Compare(a.Arch, b.Arch))
}

// Hidden reports whether one of the layers above a file's own removed or
// replaced it. The layers have been merged or restored before.
func Hidden(above []*Layer, path string) bool { return hidden(above, path) }

func hidden(above []*Layer, path string) bool {
	if len(above) == 0 {
		return false
	}
	t := above[0].engine.key.trail(path)
	return slices.ContainsFunc(above, func(l *Layer) bool { return l.covers(t) })
}

// identity is what makes a package in a file the same as in a lower layer.
type identity struct{ name, version, arch string }

func idOf(p *event.Package) identity { return identity{p.Name, p.Version, p.Arch} }

func (ev *evidence) identities() map[identity]bool {
	ids := make(map[identity]bool, len(ev.packages))
	for i := range ev.packages {
		ids[idOf(&ev.packages[i])] = true
	}
	return ids
}

// finish completes the packages of one visible file of layer top.
func finish(layers []*Layer, top int, path string, ev *evidence, d Distro) []event.Package {
	out := slices.Clone(ev.packages)
	for i := range out {
		out[i].Path, out[i].LayerIndex = path, top
	}
	sink(layers, top, path, out)
	if p, ok := ev.driver.(Placer); ok {
		for i := range out {
			p.Place(&out[i], d)
		}
	}
	return out
}

// sink moves each package down to the layer that brought it.
func sink(layers []*Layer, top int, path string, out []event.Package) {
	moved := true
	for i := top; moved && !layers[i].removes(path); {
		j := below(layers, i, path)
		if j < 0 {
			return
		}
		ids := layers[j].found[path].identities()
		moved = false
		for k := range out {
			if out[k].LayerIndex == i && ids[idOf(&out[k])] {
				out[k].LayerIndex, moved = j, true
			}
		}
		i = j
	}
}

// below is the next lower layer whose evidence at path layer i replaced, or -1.
func below(layers []*Layer, i int, path string) int {
	for j := i - 1; j >= 0; j-- {
		if layers[j].found[path] == nil {
			continue
		}
		if hidden(layers[j+1:i], path) {
			return -1
		}
		return j
	}
	return -1
}

// distro is what the image shows in the end: etc/os-release, else
// usr/lib/os-release.
func distro(layers []*Layer) Distro {
	for _, path := range []string{"etc/os-release", "usr/lib/os-release"} {
		for i := len(layers) - 1; i >= 0; i-- {
			if ev := layers[i].found[path]; ev != nil && ev.distro != nil && !hidden(layers[i+1:], path) {
				return *ev.distro
			}
		}
	}
	return Distro{}
}

func (l *Layer) gapList(index int) []string {
	out := make([]string, 0, len(l.gaps)+1)
	for _, g := range l.gaps {
		out = append(out, fmt.Sprintf("layer %d: %s", index, g))
	}
	if l.moreGaps > 0 {
		out = append(out, fmt.Sprintf("layer %d: %d more files could not be read", index, l.moreGaps))
	}
	return out
}
