package document_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// find walks to the text of a field that is at the root of a document.
func find(t *testing.T, node *document.Node, key string) *document.Node {
	t.Helper()
	for _, p := range node.Pairs {
		if p.Key == key {
			return p.Value
		}
	}
	t.Fatalf("no field %s", key)
	return nil
}

// TestAt: however a text is written, the place of a character in it is the
// place of that character in the file.
func TestAt(t *testing.T) {
	const file = `
plain: one two
long: one
  two
double: "say \"hi\" to\
  \ two"
single: 'it''s two'
literal: |
  one

    two
folded: >-
  one
  two
list: [one, "two"]
umlaut: "äöü two"
`
	docs, err := document.Parse("f.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(file, "\n")
	for _, key := range []string{"plain", "long", "double", "single", "literal", "folded", "umlaut"} {
		node := find(t, docs[0], key)
		text := []rune(node.Text)
		offset := strings.Index(string(text), "two")
		offset = len([]rune(string(text)[:offset]))
		line, column := node.At(offset)
		if got := string([]rune(lines[line-1])[column-1:]); !strings.HasPrefix(got, "two") {
			t.Errorf("%s: character %d of %q is at %d:%d, where %q stands", key, offset, node.Text, line, column, got)
		}
	}
}

func TestMistakesInYAML(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := document.Parse("f.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	f("a: 1\na: 2", "f.yaml:2:1: ")
	f("a: [1", "f.yaml:1:4: ")
	f("a: 'x", "f.yaml:1:4: ")
	f("\ta: 1", "f.yaml:1:2: ")
	f("a: b: c", "f.yaml:1:")
	f("a: \x01", "f.yaml:1:4: holds the control character")
	f("a: \xff", "f.yaml:1:1: is not UTF-8")
	f("a: *x", "f.yaml:1:4: anchors and aliases")
	f("{a: 1, a: 2}", "f.yaml:1:8: ")
	f("[a]: 1", "f.yaml:1:4: ")
	f("---\na: 1\n--- # more\n# c\nb: [", "f.yaml:5:4: ")
	f("%YAML 1.2\n---\na: 1", "f.yaml:1:1: ")
}

func TestDocuments(t *testing.T) {
	f := func(text string, lines ...int) {
		t.Helper()
		docs, err := document.Parse("f.yaml", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		var got []int
		for _, d := range docs {
			got = append(got, d.Line)
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%q: documents at lines %v, want %v", text, got, lines)
		}
	}
	f("")
	f("# nothing\n---\n")
	f("a: 1", 1)
	f("\ufeffa: 1", 1)
	f("---\n# nothing\n---\na: 1\n---\n", 4)
	f("a: 1\n---\n# only\n---\nb: 1\n", 1, 5)
	f("a: 1\r\n---\r\nb: 1\r\n", 1, 3)
	f("--- {a: 1}\n...\n--- # two\nb: |\n  ---\n  x\n", 1, 4)
	f("a: 1\n...\n\n---\nb: '\n  ---'\n", 1, 5)
}

func TestValues(t *testing.T) {
	docs, err := document.Parse("f.yaml", []byte("n: 7\nb: true\ns: x\nl: [a, b]\nw: red\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := document.NewReader("f.yaml")
	var n int
	var b bool
	var s, w string
	var l []string
	r.Value(docs[0]).Map(document.Fields{
		"n": func(v document.Value) { n = v.Int(1, 9) },
		"b": func(v document.Value) { b = v.Bool() },
		"s": func(v document.Value) { s = v.String() },
		"l": func(v document.Value) { l = v.Strings(2) },
		"w": func(v document.Value) { w = v.Word("red", "green") },
	})
	if r.Err() != nil || n != 7 || !b || s != "x" || len(l) != 2 || w != "red" {
		t.Errorf("%d %v %q %v %q: %v", n, b, s, l, w, r.Err())
	}
	r = document.NewReader("f.yaml")
	r.Value(docs[0]).Map(document.Fields{
		"n": func(v document.Value) { v.Int(8, 9) },
		"b": func(v document.Value) { _ = v.String() },
		"s": func(v document.Value) { v.List(1, func(document.Value) {}) },
		"l": func(v document.Value) { v.Strings(1) },
		"w": func(v document.Value) { v.Bool() },
	})
	var errs document.Errors
	if !errors.As(r.Err(), &errs) || len(errs) != 5 {
		t.Fatalf("%v", r.Err())
	}
	for i, e := range errs {
		if e.Line != i+1 {
			t.Errorf("error %d is on line %d", i+1, e.Line)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	docs, err := document.Parse("f.yaml", []byte("l: ["+strings.Repeat("1,", 500)+"]"))
	if err != nil {
		t.Fatal(err)
	}
	r := document.NewReader("f.yaml")
	r.Value(docs[0]).Map(document.Fields{"l": func(v document.Value) { v.Strings(1000) }})
	var errs document.Errors
	if !errors.As(r.Err(), &errs) || len(errs) != 51 || !strings.Contains(errs[50].Message, "450 errors more") {
		t.Errorf("%d errors; the last: %v", len(errs), errs[len(errs)-1])
	}
}

// FuzzParse: no crash; every place lies in the file; every visible character
// of a text is found where At says.
func FuzzParse(f *testing.F) {
	f.Add("a: |\n  b\n  c\n")
	f.Add("a: \"x\\\"y\\n\"\nb: 'it''s'\nc: >-\n  one\n\n  two\n")
	f.Add("{a: [1, {b: ~}], c: !!str x}")
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := document.Parse("f.yaml", []byte(text))
		if err != nil {
			return
		}
		lines := strings.Split(text, "\n")
		for _, doc := range docs {
			walk(t, doc, lines)
		}
	})
}

func walk(t *testing.T, n *document.Node, lines []string) {
	for offset := range []rune(n.Text) {
		line, column := n.At(offset)
		if line < 1 || line > len(lines)+1 || column < 1 {
			t.Fatalf("%q, character %d: %d:%d", n.Text, offset, line, column)
		}
	}
	for _, p := range n.Pairs {
		walk(t, p.Value, lines)
	}
	for _, item := range n.Items {
		walk(t, item, lines)
	}
}
