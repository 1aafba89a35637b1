package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Tags and types of a header (rpm's documentation, "RPM tags" and "package
// format", header structure).
const (
	tagName        = 1000
	tagVersion     = 1001
	tagRelease     = 1002
	tagEpoch       = 1003
	tagLicense     = 1014
	tagArch        = 1022
	tagSource      = 1044
	tagDirIndexes  = 1116
	tagBaseNames   = 1117
	tagDirNames    = 1118
	tagModule      = 5096
	typeInt32      = 4
	typeString     = 6
	typeStrings    = 8
	typeI18NString = 9

	maxTags = 65_536
)

// header is an index of entries and the store that they point into.
type header struct {
	index, store []byte
}

var errHeader = errors.New("a damaged header")

// openHeader reads the two lengths and splits the rest.
func openHeader(data []byte) (header, error) {
	if len(data) < 8 {
		return header{}, errHeader
	}
	tags, size := int64(binary.BigEndian.Uint32(data)), int64(binary.BigEndian.Uint32(data[4:]))
	if tags > maxTags || size > maxHeader || 8+16*tags+size > int64(len(data)) {
		return header{}, errHeader
	}
	return header{index: data[8 : 8+16*tags], store: data[8+16*tags : 8+16*tags+size]}, nil
}

// find is the value of a tag of one of the types: its bytes from the
// beginning to the end of the store, and how many values there are.
func (h header) find(tag uint32, types ...uint32) (value []byte, count int) {
	for i := 0; i+16 <= len(h.index); i += 16 {
		e := h.index[i:]
		if binary.BigEndian.Uint32(e) != tag {
			continue
		}
		kind, offset, n := binary.BigEndian.Uint32(e[4:]), binary.BigEndian.Uint32(e[8:]), binary.BigEndian.Uint32(e[12:])
		for _, t := range types {
			if t == kind && int64(offset) <= int64(len(h.store)) && int64(n) <= int64(len(h.store)) {
				return h.store[offset:], int(n)
			}
		}
		return nil, 0
	}
	return nil, 0
}

func (h header) text(tag uint32) string {
	value, n := h.find(tag, typeString, typeI18NString)
	end := bytes.IndexByte(value, 0)
	if n == 0 || end < 0 {
		return ""
	}
	return string(value[:end])
}

func (h header) number(tag uint32) (n uint32, ok bool) {
	value, count := h.find(tag, typeInt32)
	if count == 0 || len(value) < 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(value), true
}

func (h header) texts(tag uint32) [][]byte {
	value, n := h.find(tag, typeStrings)
	out := make([][]byte, 0, n)
	for range n {
		end := bytes.IndexByte(value, 0)
		if end < 0 {
			break
		}
		out = append(out, value[:end])
		value = value[end+1:]
	}
	return out
}

func parseHeader(data []byte, claim func(owner string, path []byte)) (p event.Package, err error) {
	h, err := openHeader(data)
	if err != nil {
		return p, err
	}
	p.Name, p.Arch = h.text(tagName), h.text(tagArch)
	version, release := h.text(tagVersion), h.text(tagRelease)
	p.Version = version + "-" + release
	if !purl.Valid(p.Name) || version == "" || release == "" || !purl.Valid(p.Version) || strings.Contains(p.Version, ":") || p.Arch != "" && !purl.Valid(p.Arch) {
		return p, fmt.Errorf("a header without name, version or release (%.60q %.60q)", p.Name, p.Version)
	}
	if epoch, ok := h.number(tagEpoch); ok && epoch > 0 {
		p.Version = strconv.FormatUint(uint64(epoch), 10) + ":" + p.Version
	}
	p.Source, p.SourceVersion = sourceOf(h.text(tagSource))
	if l := strings.TrimSpace(h.text(tagLicense)); purl.Valid(l) {
		p.Licenses = []string{l}
	}
	p.Module = moduleOf(h.text(tagModule))
	h.files(func(path []byte) { claim(p.Name, path) })
	return p, nil
}

// sourceOf reads "name-version-release.src.rpm".
func sourceOf(file string) (name, version string) {
	s, ok := strings.CutSuffix(file, ".rpm")
	if !ok || !purl.Valid(file) {
		return "", ""
	}
	s = strings.TrimSuffix(strings.TrimSuffix(s, ".src"), ".nosrc")
	release := strings.LastIndexByte(s, '-')
	if release <= 0 {
		return "", ""
	}
	v := strings.LastIndexByte(s[:release], '-')
	if v <= 0 || v+1 == release || release+1 == len(s) {
		return "", ""
	}
	return s[:v], s[v+1:]
}

// moduleOf is name and stream of "name:stream:version:context".
func moduleOf(label string) string {
	parts := strings.SplitN(label, ":", 3)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" || !purl.Valid(label) {
		return ""
	}
	return parts[0] + ":" + parts[1]
}

// files calls each with every path; it is valid during the call.
func (h header) files(each func(path []byte)) {
	bases, dirs := h.texts(tagBaseNames), h.texts(tagDirNames)
	indexes, n := h.find(tagDirIndexes, typeInt32)
	var path []byte
	for i, base := range bases[:min(len(bases), n, len(indexes)/4)] {
		dir := binary.BigEndian.Uint32(indexes[4*i:])
		if int64(dir) >= int64(len(dirs)) {
			continue
		}
		path = append(append(path[:0], dirs[dir]...), base...)
		each(path)
	}
}
