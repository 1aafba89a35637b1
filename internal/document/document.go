// Package document reads small YAML files that people write and that Breakwater
// must not misunderstand: policies, detections, configuration. It keeps the
// position of every value, refuses what makes YAML surprising (anchors,
// aliases, merge keys, tags, duplicate keys) and bounds size and depth, so
// that a file from an untrusted hand costs no more than its length.
//
// A file is first parsed into Nodes and then read strictly through Values: a
// field that nobody asked for is an error, and all errors of a file are
// reported together, each with file, line, column and the path of the field.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file.
const (
	MaxBytes     = 256 << 10 // of one file
	MaxDepth     = 32        // of nested lists and maps
	MaxDocuments = 256       // in one file
	maxErrors    = 50        // reported of one file
)

// Kind says what a Node is.
type Kind int

// The kinds of nodes.
const (
	Null Kind = iota
	String
	Number // integer or decimal; Text is as written
	Bool
	Map
	List
)

func (k Kind) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "a map", "a list"}[k]
}

// Node is one value of a document with its place. Nodes are never shared
// between documents and never change after Parse.
type Node struct {
	Kind         Kind
	Line, Column int    // of the value, from 1; columns count characters
	Text         string // of a scalar
	Pairs        []Pair // of a map, in the order written
	Items        []*Node

	source *source
	quote  byte // ', ", | or > when Text was written so; 0 when plain
}

// Pair is one field of a map.
type Pair struct {
	Key          string
	Line, Column int // of the key
	Value        *Node
}

// Error is one thing wrong with a file.
type Error struct {
	File         string
	Line, Column int    // from 1
	Path         string // of the field, as in run.exec.effect; may be empty
	Message      string // what is wrong and the way out
}

func (e *Error) Error() string {
	where := fmt.Sprintf("%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path == "" {
		return where + e.Message
	}
	return where + e.Path + ": " + e.Message
}

// Errors is everything wrong with a file, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

func (e Errors) sorted() Errors {
	sort.SliceStable(e, func(i, j int) bool {
		if e[i].Line != e[j].Line {
			return e[i].Line < e[j].Line
		}
		return e[i].Column < e[j].Column
	})
	return e
}

// Parse reads every document of a file. Documents that are empty are left out.
// The name is used in errors and positions only. The error is an Errors.
func Parse(name string, data []byte) ([]*Node, error) {
	docs, err := parseAll(name, data, manner{bytes: MaxBytes, depth: MaxDepth, documents: MaxDocuments})
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// manner says how a file is read.
type manner struct {
	bytes, depth, documents int
	foreign                 bool // see ParseForeign
}

func parseAll(name string, data []byte, how manner) (docs []*Node, err error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // editors on Windows write one
	src := newSource(name, data, how)
	if problem := src.check(data); problem != nil {
		return nil, Errors{problem}
	}
	// The YAML library is not ours and the file is not trusted: a crash in it
	// is one more way for a file to be unreadable.
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, Errors{src.fail(1, 1, "cannot be read as YAML: %v", r)}
		}
	}()
	parts := src.split()
	if len(parts) > how.documents {
		return nil, Errors{src.fail(1, 1, "has %d documents; at most %d are read: split the file", len(parts), how.documents)}
	}
	var problems Errors
	for _, p := range parts {
		node, errs := src.parse(p)
		problems = append(problems, errs...)
		if node != nil && node.Kind != Null {
			docs = append(docs, node)
		}
	}
	if len(problems) > 0 {
		return docs, problems.sorted()
	}
	return docs, nil
}

// parse reads one document of the file.
func (s *source) parse(p part) (*Node, Errors) {
	if p.blank() {
		return nil, nil
	}
	c := converter{source: s, before: p.before}
	tokens := lexer.Tokenize(p.text)
	if problem := c.checkDepth(tokens); problem != nil {
		return nil, Errors{problem}
	}
	var options []parser.Option
	if s.how.foreign {
		options = append(options, parser.AllowDuplicateMapKey())
	}
	file, err := parser.Parse(tokens, 0, options...)
	if err != nil {
		return nil, Errors{c.syntaxError(err)}
	}
	// The part has something in it, so that nothing or two in the tree means
	// that the library read it otherwise than we do.
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, Errors{s.fail(p.before+1, 1, "cannot be read as one document")}
	}
	node := c.convert(file.Docs[0].Body, 0)
	return node, c.errs
}

// check refuses what no YAML file of ours can hold.
func (s *source) check(data []byte) *Error {
	if len(data) > s.how.bytes {
		return s.fail(1, 1, "has %d bytes; at most %d are read", len(data), s.how.bytes)
	}
	if !utf8.Valid(data) {
		return s.fail(1, 1, "is not UTF-8 text")
	}
	for i, line := range s.lines {
		for j, r := range line {
			if r < ' ' && r != '\t' || r == 0x7f || r == 0xfeff {
				return s.fail(i+1, j+1, "holds the control character %q", r)
			}
		}
	}
	return nil
}

// converter turns the library's tree of one document into Nodes.
type converter struct {
	source *source
	before int // lines of the file before the document
	errs   Errors
	shared anchors // of a foreign file
}

// checkDepth refuses nesting before the recursive parser meets it. Flow
// collections nest by brackets, block ones by indentation or by several
// indicators on one line.
func (c *converter) checkDepth(tokens token.Tokens) *Error {
	most := c.source.how.depth
	flow, line, onLine := 0, 0, 0
	for _, t := range tokens {
		pos := t.Position
		if pos.Line != line {
			line, onLine = pos.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			onLine++
		case token.MappingValueType:
			if flow == 0 {
				onLine++
			}
		}
		if flow > most || onLine > most || pos.IndentNum > 8*most {
			return c.source.fail(pos.Line+c.before, pos.Column, "is nested more than %d deep", most)
		}
	}
	return nil
}

func (c *converter) syntaxError(err error) *Error {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil {
		line, column := c.place(syntax.Token)
		return c.source.fail(line, column, "%s", syntax.Message)
	}
	return c.source.fail(c.before+1, 1, "cannot be read as YAML: %v", err)
}

func (c *converter) fail(n ast.Node, format string, args ...any) *Node {
	line, column := c.position(n)
	c.errs = append(c.errs, c.source.fail(line, column, format, args...))
	return nil
}

func (c *converter) position(n ast.Node) (line, column int) { return c.place(n.GetToken()) }

func (c *converter) place(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return c.before + 1, 1
	}
	return c.before + max(t.Position.Line, 1), max(t.Position.Column, 1)
}

func (c *converter) convert(n ast.Node, depth int) *Node {
	if most := c.source.how.depth; depth > most {
		return c.fail(n, "is nested more than %d deep", most)
	}
	if c.source.how.foreign {
		if node, done := c.foreign(n, depth); done {
			return node
		}
	}
	line, column := c.position(n)
	node := &Node{Line: line, Column: column, source: c.source}
	switch x := n.(type) {
	case *ast.NullNode:
		return node
	case *ast.StringNode:
		node.Kind, node.Text, node.quote = String, x.Value, quoteOf(x.GetToken())
	case *ast.LiteralNode:
		node.Kind, node.Text, node.quote = String, x.Value.Value, x.Start.Value[0]
		node.Line, node.Column = c.place(x.Start)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		node.Kind, node.Text = Number, n.GetToken().Value
	case *ast.BoolNode:
		node.Kind, node.Text = Bool, n.GetToken().Value
	case *ast.MappingNode:
		return c.mapping(node, x, depth)
	case *ast.SequenceNode:
		return c.sequence(node, x, depth)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return c.fail(n, "anchors and aliases are not accepted: write the value out")
	case *ast.TagNode:
		return c.fail(n, "tags are not accepted: write the plain value")
	default:
		return c.fail(n, "is not understood here")
	}
	return node
}

func quoteOf(t *token.Token) byte {
	switch t.Type {
	case token.SingleQuoteType:
		return '\''
	case token.DoubleQuoteType:
		return '"'
	}
	return 0
}

func (c *converter) mapping(node *Node, x *ast.MappingNode, depth int) *Node {
	node.Kind = Map
	seen := map[string]int{}
	places := map[string]int{}
	var merged []*Node
	for i, value := range x.Values {
		line, column := c.position(value.Key)
		if i == 0 && !x.IsFlowStyle {
			node.Line, node.Column = line, column // the token is the first colon
		}
		if _, merge := value.Key.(*ast.MergeKeyNode); merge && c.source.how.foreign {
			merged = append(merged, c.convert(value.Value, depth+1))
			continue
		}
		key, ok := c.key(value.Key)
		if !ok {
			continue
		}
		first, twice := seen[key]
		if twice && !c.source.how.foreign {
			c.errs = append(c.errs, c.source.fail(line, column, "the key %q stands here and on line %d: remove one", key, first))
			continue
		}
		seen[key] = line
		if v := c.convert(value.Value, depth+1); v != nil {
			if v.Kind == Null {
				v.Line, v.Column = line, column
			}
			node.put(Pair{Key: key, Line: line, Column: column, Value: v}, twice, places)
		}
	}
	for _, m := range merged {
		node.merge(m, places)
	}
	return node
}

// key accepts plain and quoted words and numbers as keys.
func (c *converter) key(k ast.MapKeyNode) (string, bool) {
	switch x := k.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	case *ast.MergeKeyNode:
		c.fail(k, "merge keys are not accepted: write the fields out")
	default:
		c.fail(k, "is not accepted as a key: use a word")
	}
	return "", false
}

func (c *converter) sequence(node *Node, x *ast.SequenceNode, depth int) *Node {
	node.Kind = List
	for _, item := range x.Values {
		if v := c.convert(item, depth+1); v != nil {
			node.Items = append(node.Items, v)
		}
	}
	return node
}
