package intel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// The form of affected.versions: the list's length, then of each element its
// state, severity, module, ranges and versions. Lengths are unsigned varints,
// strings their length and bytes; states and severities are places in the lists
// below. Rows over packFrom bytes are deflated; the first byte tells. These
// rows are read by every lookup that finds something, so they are not JSON.

const (
	plainRow  = 0
	packedRow = 1
	packFrom  = 512
)

func states() []event.FixState {
	return []event.FixState{"", event.FixFixed, event.FixAffected, event.FixWontFix, event.FixDeferred, event.FixInvestigating, event.FixEndOfLife}
}

func severities() []event.Severity {
	return []event.Severity{"", event.SeverityUnknown, event.SeverityNegligible, event.SeverityLow, event.SeverityMedium, event.SeverityHigh, event.SeverityCritical}
}

// The kinds of points.
const (
	pointIntroduced = iota
	pointFixed
	pointLast
	pointLimit
)

func encodeAffected(list []vuln.Affected) ([]byte, error) {
	row := []byte{plainRow}
	row = binary.AppendUvarint(row, uint64(len(list)))
	for i := range list {
		a := &list[i]
		state, severity := slices.Index(states(), a.State), slices.Index(severities(), a.Severity)
		if state < 0 || severity < 0 {
			return nil, fmt.Errorf("%s: unknown state %q or severity %q", a.Name, a.State, a.Severity)
		}
		row = append(row, byte(state), byte(severity))
		row = appendText(row, a.Module)
		row = binary.AppendUvarint(row, uint64(len(a.Ranges)))
		for _, r := range a.Ranges {
			row = binary.AppendUvarint(row, uint64(len(r.Events)))
			for _, p := range r.Events {
				row = appendPoint(row, p)
			}
		}
		row = binary.AppendUvarint(row, uint64(len(a.Versions)))
		for _, v := range a.Versions {
			row = appendText(row, v)
		}
	}
	if len(row) <= packFrom {
		return row, nil
	}
	packed, err := deflate(row[1:])
	return append([]byte{packedRow}, packed...), err
}

func appendText(row []byte, s string) []byte {
	return append(binary.AppendUvarint(row, uint64(len(s))), s...)
}

func appendPoint(row []byte, p vuln.Point) []byte {
	switch {
	case p.Introduced != "":
		return appendText(append(row, pointIntroduced), p.Introduced)
	case p.Fixed != "":
		return appendText(append(row, pointFixed), p.Fixed)
	case p.LastAffected != "":
		return appendText(append(row, pointLast), p.LastAffected)
	}
	return appendText(append(row, pointLimit), p.Limit)
}

var errRow = errors.New("a row is malformed")

// decodeAffected reads a row; the strings of the result share its memory.
func decodeAffected(row []byte, u *unpacker) ([]vuln.Affected, error) {
	if len(row) == 0 {
		return nil, errRow
	}
	body := row[1:]
	if row[0] == packedRow {
		var err error
		if body, err = u.inflate(body); err != nil {
			return nil, err
		}
	}
	r := rowReader{text: string(body)}
	list := make([]vuln.Affected, r.count())
	for i := range list {
		a := &list[i]
		a.State, a.Severity = at(states(), r.octet()), at(severities(), r.octet())
		a.Module = r.string()
		if n := r.count(); n > 0 {
			a.Ranges = make([]vuln.Range, n)
		}
		for j := range a.Ranges {
			a.Ranges[j].Events = make([]vuln.Point, r.count())
			for k := range a.Ranges[j].Events {
				a.Ranges[j].Events[k] = r.point()
			}
		}
		if n := r.count(); n > 0 {
			a.Versions = make([]string, n)
		}
		for j := range a.Versions {
			a.Versions[j] = r.string()
		}
	}
	if r.bad || r.text != "" {
		return nil, errRow
	}
	return list, nil
}

func at[T any](list []T, i byte) (zero T) {
	if int(i) < len(list) {
		return list[i]
	}
	return zero
}

// rowReader takes a row apart; bad stays true once something was missing.
type rowReader struct {
	text string
	bad  bool
}

// count reads a length; none can be more than the bytes that are left.
func (r *rowReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.text)) {
		r.bad, r.text = true, ""
		return 0
	}
	return int(n)
}

func (r *rowReader) uvarint() (v uint64) {
	for shift := 0; shift < 64 && len(r.text) > 0; shift += 7 {
		b := r.octet()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.bad, r.text = true, ""
	return 0
}

func (r *rowReader) octet() byte {
	if r.text == "" {
		r.bad = true
		return 0
	}
	b := r.text[0]
	r.text = r.text[1:]
	return b
}

func (r *rowReader) string() string {
	n := r.count()
	s := r.text[:n]
	r.text = r.text[n:]
	return s
}

func (r *rowReader) point() (p vuln.Point) {
	kind, version := r.octet(), r.string()
	switch kind {
	case pointIntroduced:
		p.Introduced = version
	case pointFixed:
		p.Fixed = version
	case pointLast:
		p.LastAffected = version
	case pointLimit:
		p.Limit = version
	default:
		r.bad = true
	}
	return p
}
