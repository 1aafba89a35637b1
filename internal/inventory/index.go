package inventory

import "strings"

// Named is a Driver that knows its evidence by base names. It is asked for
// files of those names only, so that sixty formats cost a file that is none of
// them two look-ups.
type Named interface {
	Driver
	// Names lists base names ("Cargo.lock") and last extensions ("*.jar").
	Names() []string
}

// index finds the drivers to ask: those that name the file, then the others.
type index struct {
	names, extensions map[string][]Driver
	others            []Driver
}

func newIndex(drivers []Driver) index {
	x := index{names: map[string][]Driver{}, extensions: map[string][]Driver{}}
	for _, d := range drivers {
		named, ok := d.(Named)
		if !ok {
			x.others = append(x.others, d)
			continue
		}
		for _, name := range named.Names() {
			if ext, ok := strings.CutPrefix(name, "*."); ok {
				x.extensions[ext] = append(x.extensions[ext], d)
			} else {
				x.names[name] = append(x.names[name], d)
			}
		}
	}
	return x
}

// find is the first driver that wants the file, or nil.
func (x *index) find(path string, info Info) Driver {
	_, base := split(path)
	for _, d := range x.names[base] {
		if d.Wants(path, info) {
			return d
		}
	}
	if i := strings.LastIndexByte(base, '.'); i >= 0 {
		for _, d := range x.extensions[base[i+1:]] {
			if d.Wants(path, info) {
				return d
			}
		}
	}
	for _, d := range x.others {
		if d.Wants(path, info) {
			return d
		}
	}
	return nil
}
