package store

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// decodeStocked reads the body of a package's row (Thing, as encoding/json wrote
// it). Every package of the stock is read for each new bundle, so what stands in
// the form that the store itself writes is read by a reader of its own, four
// times as fast; everything else by encoding/json.
func decodeStocked(body []byte) (p event.Package, d report.Distro, err error) {
	r := rowReader{text: string(body)}
	var kind ThingKind
	hasPackage, hasDistro := false, false
	ok := r.object(func(name string) bool {
		switch name {
		case "kind":
			kind = ThingKind(r.string())
		case "package":
			hasPackage = true
			return r.object(func(name string) bool { return r.packageField(&p, name) })
		case "distro":
			hasDistro = true
			return r.object(func(name string) bool { return r.distroField(&d, name) })
		case "name":
			r.string()
		default:
			return false
		}
		return true
	})
	if ok && r.text == "" && !r.bad && hasPackage && hasDistro && kind == ThingPackage {
		return p, d, nil
	}
	var t struct {
		Package *event.Package
		Distro  *report.Distro
	}
	if err := json.Unmarshal(body, &t); err != nil || t.Package == nil || t.Distro == nil {
		return p, d, errors.Join(err, ErrCorrupt)
	}
	return *t.Package, *t.Distro, nil
}

// rowReader takes JSON without white space apart; strings of it share its
// memory. bad stays true once it met what it does not know.
type rowReader struct {
	text string
	bad  bool
}

func (r *rowReader) packageField(p *event.Package, name string) bool {
	switch name {
	case "name":
		p.Name = r.string()
	case "version":
		p.Version = r.string()
	case "ecosystem":
		p.Ecosystem = r.string()
	case "purl":
		p.PURL = r.string()
	case "source":
		p.Source = r.string()
	case "sourceVersion":
		p.SourceVersion = r.string()
	case "arch":
		p.Arch = r.string()
	case "module":
		p.Module = r.string()
	case "owner":
		p.Owner = r.string()
	case "path", "layer": // the store leaves them out
		return r.string() == ""
	case "layerIndex":
		return r.take("0")
	case "locked":
		p.Locked = r.take("true")
		return p.Locked
	default:
		return false
	}
	return !r.bad
}

func (r *rowReader) distroField(d *report.Distro, name string) bool {
	switch name {
	case "id":
		d.ID = r.string()
	case "version":
		d.Version = r.string()
	case "codename":
		d.Codename = r.string()
	default:
		return false
	}
	return !r.bad
}

// object reads one, giving f the name of each field to read its value; false
// when it could not.
func (r *rowReader) object(f func(name string) bool) bool {
	if !r.take("{") {
		return false
	}
	if r.take("}") {
		return true
	}
	for {
		name := r.string()
		if r.bad || !r.take(":") || !f(name) {
			return false
		}
		if r.take("}") {
			return true
		}
		if !r.take(",") {
			return false
		}
	}
}

func (r *rowReader) take(word string) bool {
	rest, ok := strings.CutPrefix(r.text, word)
	if ok {
		r.text = rest
	}
	return ok
}

// string reads one; those with escapes encoding/json reads.
func (r *rowReader) string() (s string) {
	if r.bad || !r.take(`"`) {
		r.bad = true
		return ""
	}
	end := strings.IndexAny(r.text, `"\`)
	if end < 0 {
		r.bad = true
		return ""
	}
	if r.text[end] == '"' {
		s, r.text = r.text[:end], r.text[end+1:]
		return s
	}
	for end < len(r.text) && r.text[end] != '"' {
		if r.text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(r.text) || json.Unmarshal([]byte(`"`+r.text[:end+1]), &s) != nil {
		r.bad = true
		return ""
	}
	r.text = r.text[end+1:]
	return s
}
