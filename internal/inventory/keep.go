package inventory

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// kept is a layer outside of this process. Paths are bytes: JSON would change
// names that are not UTF-8, and two files would become one.
type kept struct {
	Found    []keptEvidence `json:"found,omitempty"`
	Present  []byte         `json:"present,omitempty"` // 8 bytes each, little endian, sorted
	Dirs     []byte         `json:"dirs,omitempty"`
	Removed  [][]byte       `json:"removed,omitempty"`
	Opaque   [][]byte       `json:"opaque,omitempty"`
	Gaps     []string       `json:"gaps,omitempty"`
	MoreGaps int            `json:"moreGaps,omitempty"`
}

type keptEvidence struct {
	Path     []byte          `json:"path"`
	Driver   string          `json:"driver,omitempty"`
	Packages []event.Package `json:"packages,omitempty"`
	Distro   *Distro         `json:"distro,omitempty"`
	Owner    string          `json:"owner,omitempty"`
}

// Keep gives the layer in a form that can be sent and stored, for
// [Engine.Restore]. Nothing is visited after it.
func (l *Layer) Keep() ([]byte, error) {
	slices.Sort(l.present)
	slices.Sort(l.dirs)
	l.settle()
	k := kept{
		Present: packed(l.present), Dirs: packed(l.dirs),
		Removed: names(l.removed), Opaque: names(l.opaque),
		Gaps: l.gaps, MoreGaps: l.moreGaps,
	}
	for path, ev := range l.found {
		e := keptEvidence{Path: []byte(path), Packages: ev.packages, Distro: ev.distro, Owner: ev.owner}
		if ev.driver != nil {
			e.Driver = driverName(ev.driver)
		}
		k.Found = append(k.Found, e)
	}
	return json.Marshal(k)
}

// Restore makes a layer of what Keep gave, in an engine with the same key and
// the same drivers. It takes data from a process that hostile content may have
// taken over: such data can be wrong, and do no more harm than that.
func (e *Engine) Restore(data []byte) (*Layer, error) {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("a stored layer: %w", err)
	}
	l := e.NewLayer()
	l.gaps, l.moreGaps = k.Gaps, k.MoreGaps
	var err error
	if l.present, err = unpacked(k.Present); err != nil {
		return nil, err
	}
	if l.dirs, err = unpacked(k.Dirs); err != nil {
		return nil, err
	}
	for _, name := range k.Removed {
		l.removed[string(name)] = true
	}
	for _, name := range k.Opaque {
		l.opaque[string(name)] = true
	}
	for _, f := range k.Found {
		ev := &evidence{packages: f.Packages, distro: f.Distro, owner: f.Owner, driver: e.driver(f.Driver)}
		if ev.driver == nil && f.Driver != "" {
			return nil, fmt.Errorf("a stored layer: its driver %q is not known", f.Driver)
		}
		l.found[string(f.Path)] = ev
	}
	return l, nil
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

func packed(hashes []uint64) []byte {
	out := make([]byte, 0, 8*len(hashes))
	for _, h := range hashes {
		out = binary.LittleEndian.AppendUint64(out, h)
	}
	return out
}

var errHashes = errors.New("a stored layer: its hashes are damaged")

func unpacked(data []byte) ([]uint64, error) {
	if len(data)%8 != 0 {
		return nil, errHashes
	}
	out := make([]uint64, len(data)/8)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(data[8*i:])
	}
	if !slices.IsSorted(out) {
		return nil, errHashes
	}
	return out, nil
}

func names(set map[string]bool) [][]byte {
	var out [][]byte
	for name := range set {
		out = append(out, []byte(name))
	}
	return out
}
