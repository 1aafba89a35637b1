package inventory

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// keptForm is the first byte of a kept layer; another form gets another one.
//
// After it: the hashes of present things and of directories (a count, then 8
// bytes each, little endian, sorted), the names of what is removed and opaque,
// the gaps, the number of further gaps, and the evidence. Numbers are unsigned
// varints; texts are their length and bytes, for paths need not be UTF-8; a list
// is a count and its elements.
const keptForm = 2

// Keep gives the layer in a form that can be sent and stored, for
// [Engine.Restore]. Nothing is visited after it.
func (l *Layer) Keep() ([]byte, error) {
	slices.Sort(l.present)
	slices.Sort(l.dirs)
	l.settle()
	k := keeper{data: append(make([]byte, 0, 64+8*(len(l.present)+len(l.dirs))), keptForm)}
	k.hashes(l.present)
	k.hashes(l.dirs)
	k.names(l.removed)
	k.names(l.opaque)
	k.texts(l.gaps)
	k.number(l.moreGaps)
	k.number(len(l.found))
	for path, ev := range l.found {
		if err := k.evidence(path, ev); err != nil {
			return nil, err
		}
	}
	return k.data, nil
}

// keeper writes a kept layer.
type keeper struct{ data []byte }

func (k *keeper) number(n int) { k.data = binary.AppendUvarint(k.data, uint64(n)) }

func (k *keeper) text(s string) {
	k.number(len(s))
	k.data = append(k.data, s...)
}

func (k *keeper) texts(all []string) {
	k.number(len(all))
	for _, s := range all {
		k.text(s)
	}
}

func (k *keeper) names(set map[string]bool) {
	k.number(len(set))
	for name := range set {
		k.text(name)
	}
}

func (k *keeper) hashes(all []uint64) {
	k.number(len(all))
	for _, h := range all {
		k.data = binary.LittleEndian.AppendUint64(k.data, h)
	}
}

func (k *keeper) evidence(path string, ev *evidence) error {
	k.text(path)
	driver, distro := "", []byte(nil)
	if ev.driver != nil {
		driver = driverName(ev.driver)
	}
	if ev.distro != nil {
		var err error
		if distro, err = json.Marshal(ev.distro); err != nil {
			return err
		}
	}
	k.text(driver)
	k.text(string(distro))
	k.text(ev.owner)
	k.number(len(ev.packages))
	for i := range ev.packages {
		p := &ev.packages[i]
		for _, s := range packageTexts(p) {
			k.text(*s)
		}
		k.texts(p.Licenses)
		k.number(p.LayerIndex)
		k.number(map[bool]int{true: 1}[p.Locked])
	}
	return nil
}

// packageTexts are all fields of a package that are one text.
func packageTexts(p *event.Package) [12]*string {
	return [...]*string{
		&p.Name, &p.Version, &p.Ecosystem, &p.PURL, &p.Source, &p.SourceVersion,
		&p.Arch, &p.Module, &p.Path, &p.Layer, &p.Step, &p.Owner,
	}
}

// minKept is how many bytes a package takes at least: a bound of how many there
// can be.
const minKept = 12 + 3

// Restore makes a layer of what Keep gave, in an engine with the same key and
// the same drivers. It takes data from a process that hostile content may have
// taken over: such data can be wrong, and do no more harm than that.
func (e *Engine) Restore(data []byte) (*Layer, error) {
	r := restorer{engine: e, drivers: map[string]Driver{}}
	for _, d := range e.drivers {
		r.drivers[driverName(d)] = d
	}
	if len(data) == 0 || data[0] != keptForm {
		return nil, errKept
	}
	r.rest = string(data[1:]) // once: all texts are parts of it
	l := e.NewLayer()
	l.present, l.dirs = r.hashes(), r.hashes()
	for range r.count(1) {
		l.removed[r.text()] = true
	}
	for range r.count(1) {
		l.opaque[r.text()] = true
	}
	l.gaps, l.moreGaps = r.texts(), r.number()
	for range r.count(5) {
		path := r.text()
		l.found[path] = r.evidence()
		if r.err != nil {
			break
		}
	}
	if r.err == nil && r.rest != "" {
		r.err = errKept
	}
	if r.err != nil {
		return nil, r.err
	}
	return l, nil
}

var errKept = errors.New("a stored layer is damaged")

// restorer reads a kept layer. After the first error it gives zero values.
type restorer struct {
	engine  *Engine
	drivers map[string]Driver
	rest    string
	err     error
}

func (r *restorer) fail(err error) {
	if r.err == nil {
		r.rest, r.err = "", err
	}
}

func (r *restorer) number() int {
	var n uint64
	for i := 0; i < len(r.rest) && i < 5; i++ { // 5 bytes: 35 bits
		n |= uint64(r.rest[i]&0x7f) << (7 * i)
		if r.rest[i] < 0x80 {
			r.rest = r.rest[i+1:]
			return int(n)
		}
	}
	r.fail(errKept)
	return 0
}

// count is a number of things of at least size bytes each, which are there.
func (r *restorer) count(size int) int {
	n := r.number()
	if n > len(r.rest)/size {
		r.fail(errKept)
		return 0
	}
	return n
}

func (r *restorer) text() string {
	n := r.count(1)
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *restorer) texts() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	out := make([]string, n)
	for i := range out {
		out[i] = r.text()
	}
	return out
}

func (r *restorer) hashes() []uint64 {
	out := make([]uint64, r.count(8))
	for i := range out {
		s := r.rest[8*i:]
		out[i] = uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	}
	r.rest = r.rest[8*len(out):]
	if !slices.IsSorted(out) {
		r.fail(errKept)
	}
	return out
}

func (r *restorer) evidence() *evidence {
	driver, distro := r.text(), r.text()
	ev := &evidence{driver: r.drivers[driver], owner: r.text()}
	if ev.driver == nil && driver != "" {
		r.fail(fmt.Errorf("a stored layer: its driver %q is not known", driver))
	}
	if distro != "" {
		ev.distro = &Distro{}
		if err := json.Unmarshal([]byte(distro), ev.distro); err != nil {
			r.fail(errKept)
		}
	}
	ev.packages = make([]event.Package, r.count(minKept))
	for i := range ev.packages {
		p := &ev.packages[i]
		for _, s := range packageTexts(p) {
			*s = r.text()
		}
		p.Licenses, p.LayerIndex, p.Locked = r.texts(), r.number(), r.number() == 1
	}
	return ev
}

func driverName(d Driver) string { return fmt.Sprintf("%T", d) }

func (e *Engine) driver(name string) Driver {
	for _, d := range e.drivers {
		if driverName(d) == name {
			return d
		}
	}
	return nil
}
