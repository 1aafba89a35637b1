package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// directive is the engine's name for its list of authorization plugins
// (dockerd(8), daemon.json).
const directive = "authorization-plugins"

// Add puts a plugin at the end of a daemon.json's authorization plugins. Every
// other byte stays as it is. Data that is empty becomes a file of its own. The
// result equals data when the plugin is there already.
func Add(data []byte, plugin string) ([]byte, error) {
	quoted := quote(plugin)
	if len(bytes.TrimSpace(data)) == 0 {
		return []byte("{\n  \"" + directive + "\": [" + quoted + "]\n}\n"), nil
	}
	o, err := scan(data)
	if err != nil {
		return nil, err
	}
	m := o.member(directive)
	if m == nil {
		return o.addMember(data, quoted), nil
	}
	if m.list == nil {
		return nil, fmt.Errorf("%q is not a list of names", directive)
	}
	if m.list.index(plugin) >= 0 {
		return data, nil
	}
	n := len(m.list.items)
	if n == 0 {
		return splice(data, m.list.start+1, m.list.start+1, quoted), nil
	}
	last := m.list.items[n-1]
	gap := string(data[last.gap:last.start]) // the white space before the last name
	if gap == "" && n == 1 {
		gap = " "
	}
	return splice(data, last.end, last.end, ","+gap+quoted), nil
}

// Remove takes a plugin out of a daemon.json's authorization plugins, and the
// list with it when nothing else is in it. Every other byte stays as it is.
func Remove(data []byte, plugin string) ([]byte, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return data, nil
	}
	o, err := scan(data)
	if err != nil {
		return nil, err
	}
	m := o.member(directive)
	if m == nil || m.list == nil {
		return data, nil
	}
	i := m.list.index(plugin)
	switch {
	case i < 0:
		return data, nil
	case len(m.list.items) > 1 && i == 0:
		return splice(data, m.list.items[0].start, m.list.items[1].start, ""), nil
	case len(m.list.items) > 1:
		return splice(data, m.list.items[i-1].end, m.list.items[i].end, ""), nil
	}
	at := slices.IndexFunc(o.members, func(x member) bool { return x.key == directive })
	switch {
	case at > 0:
		return splice(data, o.members[at-1].end, m.end, ""), nil
	case len(o.members) > 1:
		return splice(data, m.start, o.members[1].start, ""), nil
	}
	return splice(data, o.start+1, m.end, ""), nil
}

func splice(data []byte, from, to int, with string) []byte {
	return slices.Concat(data[:from], []byte(with), data[to:])
}

func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil { // a string always encodes
		return `""`
	}
	return string(b)
}

// object is where the parts of a JSON object stand in its text.
type object struct {
	start   int // of the opening brace
	members []member
}

type member struct {
	key        string
	start, end int   // of key to value
	list       *list // when the value is a list of strings
}

type list struct {
	start int // of the opening bracket
	items []item
}

type item struct {
	text            string
	gap, start, end int // gap: where the white space before it begins
}

func (o *object) member(key string) *member {
	for i := range o.members {
		if o.members[i].key == key {
			return &o.members[i]
		}
	}
	return nil
}

func (l *list) index(text string) int {
	return slices.IndexFunc(l.items, func(i item) bool { return i.text == text })
}

// addMember puts the directive behind the last member, spaced as the first is.
func (o *object) addMember(data []byte, quoted string) []byte {
	text := quote(directive) + ": [" + quoted + "]"
	if len(o.members) == 0 {
		return splice(data, o.start+1, o.start+1, "\n  "+text+"\n")
	}
	gap := string(data[o.start+1 : o.members[0].start])
	if gap == "" {
		gap = " "
	}
	last := o.members[len(o.members)-1].end
	return splice(data, last, last, ","+gap+text)
}

// scan finds the parts of the one object that data is.
func scan(data []byte) (*object, error) {
	s := scanner{data: data, d: json.NewDecoder(bytes.NewReader(data))}
	o, err := s.object()
	if err != nil {
		line := 1 + bytes.Count(data[:min(len(data), int(s.d.InputOffset()))], []byte("\n"))
		return nil, fmt.Errorf("line %d: %w", line, err)
	}
	return o, nil
}

type scanner struct {
	data []byte
	d    *json.Decoder
}

// next reads one token and says where it starts and ends.
func (s scanner) next() (token json.Token, start, end int, err error) {
	from := int(s.d.InputOffset())
	token, err = s.d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, 0, 0, fmt.Errorf("not valid JSON: %w", err)
	}
	end = int(s.d.InputOffset())
	// Between two tokens stand only white space, a comma or a colon.
	gap := bytes.TrimLeft(s.data[from:end], " \t\r\n,:")
	return token, end - len(gap), end, nil
}

func (s scanner) object() (*object, error) {
	token, start, _, err := s.next()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := &object{start: start}
	for s.d.More() {
		m, err := s.member()
		if err != nil {
			return nil, err
		}
		if o.member(m.key) != nil {
			return nil, fmt.Errorf("%q stands there twice", m.key)
		}
		if m.key != directive && strings.EqualFold(m.key, directive) {
			return nil, fmt.Errorf("%q is no directive: the engine wants it spelt %q", m.key, directive)
		}
		o.members = append(o.members, m)
	}
	if _, _, _, err := s.next(); err != nil {
		return nil, err
	}
	if _, err := s.d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return o, nil
}

func (s scanner) member() (member, error) {
	token, start, _, err := s.next()
	if err != nil {
		return member{}, err
	}
	key, ok := token.(string)
	if !ok {
		return member{}, fmt.Errorf("not valid JSON: %v where a key should be", token)
	}
	m := member{key: key, start: start}
	m.list, m.end, err = s.value()
	return m, err
}

// value reads a value; of a list of strings it keeps the places.
func (s scanner) value() (*list, int, error) {
	token, start, end, err := s.next()
	if err != nil {
		return nil, 0, err
	}
	if token != json.Delim('[') && token != json.Delim('{') {
		return nil, end, nil
	}
	found := &list{start: start}
	if token != json.Delim('[') {
		found = nil
	}
	for depth, before := 1, end; depth > 0; before = end {
		if token, start, end, err = s.next(); err != nil {
			return nil, 0, err
		}
		text, isText := token.(string)
		switch {
		case token == json.Delim('[') || token == json.Delim('{'):
			depth++
			found = nil
		case token == json.Delim(']') || token == json.Delim('}'):
			depth--
		case !isText:
			found = nil
		case found != nil:
			gap := before + len(s.data[before:start]) - len(strings.TrimLeft(string(s.data[before:start]), ","))
			found.items = append(found.items, item{text, gap, start, end})
		}
	}
	return found, end, nil
}
