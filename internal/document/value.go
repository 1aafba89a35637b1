package document

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Value is a Node that is being read: it knows the path that led to it and
// where errors are collected. Its methods report what is wrong and return the
// zero value, so that a reader goes on and finds all errors of a file.
// Values of one Reader belong to one goroutine.
type Value struct {
	*Node
	Path   string
	reader *Reader
}

// Reader collects the errors of one file.
type Reader struct {
	file string
	errs Errors
}

// NewReader starts reading the file of that name.
func NewReader(file string) *Reader { return &Reader{file: file} }

// Value starts at the root of a document.
func (r *Reader) Value(n *Node) Value { return Value{Node: n, reader: r} }

// Err is nil or the Errors found, in the order of the file, at most 50 of them.
func (r *Reader) Err() error {
	if len(r.errs) == 0 {
		return nil
	}
	errs := r.errs.sorted()
	if len(errs) > maxErrors {
		errs = append(errs[:maxErrors:maxErrors], &Error{File: r.file, Line: errs[maxErrors].Line, Column: errs[maxErrors].Column,
			Message: fmt.Sprintf("and %d errors more", len(errs)-maxErrors)})
	}
	return errs
}

func (r *Reader) fail(line, column int, path, format string, args ...any) {
	r.errs = append(r.errs, &Error{File: r.file, Line: line, Column: column, Path: path, Message: fmt.Sprintf(format, args...)})
}

// Fail reports an error at the value.
func (v Value) Fail(format string, args ...any) {
	v.reader.fail(v.Line, v.Column, v.Path, format, args...)
}

// FailAt reports an error at character number offset of the value's text.
func (v Value) FailAt(offset int, format string, args ...any) {
	line, column := v.At(offset)
	v.reader.fail(line, column, v.Path, format, args...)
}

// Source is "file:line" of the value.
func (v Value) Source() string { return fmt.Sprintf("%s:%d", v.reader.file, v.Line) }

// Fields says how each field of a map is read. A nil function marks a field of
// the language that this version does not implement: it is refused.
type Fields map[string]func(Value)

// Map reads a map by fields, in the order written. Any other field is an
// error, and so is a field without a value.
func (v Value) Map(fields Fields) bool {
	if v.Kind != Map {
		v.Fail("must be a map with %s, not %s", fields.names(), v.Kind)
		return false
	}
	for _, p := range v.Pairs {
		child := Value{Node: p.Value, Path: join(v.Path, p.Key), reader: v.reader}
		read, known := fields[p.Key]
		switch {
		case !known:
			v.reader.fail(p.Line, p.Column, child.Path, "unknown field%s; known here: %s", suggest(p.Key, fields), fields.names())
		case read == nil:
			v.reader.fail(p.Line, p.Column, child.Path, "is not implemented in this version: remove the field")
		case p.Value.Kind == Null:
			v.reader.fail(p.Line, p.Column, child.Path, "has no value: give one or remove the field")
		default:
			read(child)
		}
	}
	return true
}

// Each reads a map whose keys are the user's own words.
func (v Value) Each(read func(key string, at Value)) {
	if v.Kind != Map {
		v.Fail("must be a map, not %s", v.Kind)
		return
	}
	for _, p := range v.Pairs {
		read(p.Key, Value{Node: p.Value, Path: join(v.Path, p.Key), reader: v.reader})
	}
}

// Require reports each of these fields that the map does not have.
func (v Value) Require(names ...string) {
	for _, name := range names {
		if !v.Has(name) {
			v.reader.fail(v.Line, v.Column, join(v.Path, name), "is missing")
		}
	}
}

// Has says whether the map has that field.
func (v Value) Has(name string) bool {
	return slices.ContainsFunc(v.Pairs, func(p Pair) bool { return p.Key == name })
}

// List reads a list of at most limit items.
func (v Value) List(limit int, read func(Value)) {
	if v.Kind != List {
		v.Fail("must be a list, not %s", v.Kind)
		return
	}
	if len(v.Items) > limit {
		v.Fail("has %d items; at most %d are accepted", len(v.Items), limit)
		return
	}
	for i, item := range v.Items {
		read(Value{Node: item, Path: fmt.Sprintf("%s[%d]", v.Path, i), reader: v.reader})
	}
}

// String reads a text that is not empty.
func (v Value) String() string {
	if v.Kind != String {
		v.Fail("must be text, not %s", v.Kind)
		return ""
	}
	if strings.TrimSpace(v.Text) == "" {
		v.Fail("is empty")
	}
	return v.Text
}

// Strings reads a list of at most limit texts.
func (v Value) Strings(limit int) []string {
	list := []string{}
	v.List(limit, func(item Value) { list = append(list, item.String()) })
	return list
}

// Word reads one of a few words.
func (v Value) Word(words ...string) string {
	if v.Kind == String && slices.Contains(words, v.Text) {
		return v.Text
	}
	v.Fail("%s is none of %s", v.show(), strings.Join(words, ", "))
	return ""
}

// Int reads a whole number from low to high.
func (v Value) Int(low, high int) int {
	n, err := strconv.Atoi(v.Text)
	if v.Kind != Number || err != nil || n < low || n > high {
		v.Fail("%s is not a whole number from %d to %d", v.show(), low, high)
		return low
	}
	return n
}

// Bool reads true or false.
func (v Value) Bool() bool {
	if v.Kind != Bool {
		v.Fail("%s is neither true nor false", v.show())
	}
	return v.Kind == Bool && strings.EqualFold(v.Text, "true")
}

func (v Value) show() string {
	switch v.Kind {
	case String:
		return strconv.Quote(clip(v.Text))
	case Number, Bool:
		return clip(v.Text)
	}
	return v.Kind.String()
}

func clip(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

func (f Fields) names() string {
	names := make([]string, 0, len(f))
	for name, read := range f {
		if read != nil {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func join(path, name string) string {
	if path == "" {
		return clip(name)
	}
	return path + "." + clip(name)
}

// suggest offers the field that a misspelt one is nearest to.
func suggest(name string, fields Fields) string {
	const tooFar = 3
	best, distance := "", tooFar
	for candidate := range fields {
		if d := editDistance(name, candidate, tooFar); d < distance || d == distance && candidate < best {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}

// editDistance is Levenshtein's, without regard to case; limit when it is more.
func editDistance(a, b string, limit int) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}

// Plain is the value as encoding/json would hold it, for what has a JSON form
// of its own. Numbers keep their spelling.
func (n *Node) Plain() any {
	switch n.Kind {
	case Map:
		m := make(map[string]any, len(n.Pairs))
		for _, p := range n.Pairs {
			m[p.Key] = p.Value.Plain()
		}
		return m
	case List:
		items := make([]any, len(n.Items))
		for i, item := range n.Items {
			items[i] = item.Plain()
		}
		return items
	case Number:
		return json.Number(n.Text)
	case Bool:
		return strings.EqualFold(n.Text, "true")
	case String:
		return n.Text
	}
	return nil
}
