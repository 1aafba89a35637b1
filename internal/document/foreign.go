package document

import (
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// The bounds of a foreign file.
const (
	MaxForeignBytes     = 4 << 20
	maxForeignDepth     = 100
	maxForeignDocuments = 5_000
	maxForeignNodes     = 500_000 // of one document, aliases followed
)

// ParseForeign reads YAML that others define, such as manifests: anchors,
// aliases and merge keys are followed, tags are passed over, of a duplicate key
// the last one counts, as it does for the tools that read such files. The
// documents that are right are returned beside the error, an Errors that tells
// of the others. An aliased value is one Node with several places; its position
// is that of its anchor.
func ParseForeign(name string, data []byte) ([]*Node, error) {
	return parseAll(name, data, manner{bytes: MaxForeignBytes, depth: maxForeignDepth, documents: maxForeignDocuments, foreign: true})
}

// anchors are the named values of a document. Values are shared, never copied;
// what a walk over all of them would cost is counted, so that a few lines of
// aliases of aliases cannot be a billion values.
type anchors struct {
	named map[string]anchored
	nodes int
}

type anchored struct {
	node  *Node
	nodes int
}

// foreign converts what only a foreign file may have. Anything else is not done.
func (c *converter) foreign(n ast.Node, depth int) (node *Node, done bool) {
	c.shared.nodes++
	if c.shared.nodes > maxForeignNodes {
		return c.tooMany(n), true
	}
	switch x := n.(type) {
	case *ast.TagNode:
		if x.Value == nil {
			return nil, false
		}
		return c.convert(x.Value, depth+1), true
	case *ast.AnchorNode:
		before := c.shared.nodes
		node := c.convert(x.Value, depth+1)
		if c.shared.named == nil {
			c.shared.named = map[string]anchored{}
		}
		c.shared.named[x.Name.GetToken().Value] = anchored{node, c.shared.nodes - before}
		return node, true
	case *ast.AliasNode:
		a, known := c.shared.named[x.Value.GetToken().Value]
		if !known {
			return c.fail(n, "the alias *%s has no anchor before it", clip(x.Value.GetToken().Value)), true
		}
		if c.shared.nodes += a.nodes; c.shared.nodes > maxForeignNodes {
			return c.tooMany(n), true
		}
		return a.node, true
	}
	return nil, false
}

// tooMany says so once.
func (c *converter) tooMany(n ast.Node) *Node {
	if len(c.errs) == 0 {
		c.fail(n, "has more than %d values, aliases followed", maxForeignNodes)
	}
	return nil
}

// put adds a field, or replaces the one of that key when it stands there again.
func (n *Node) put(p Pair, again bool, places map[string]int) {
	if at, there := places[p.Key]; again && there {
		n.Pairs[at] = p
		return
	}
	places[p.Key] = len(n.Pairs)
	n.Pairs = append(n.Pairs, p)
}

// merge adds the fields of other that n has not: a map or a list of maps.
func (n *Node) merge(other *Node, places map[string]int) {
	if other == nil {
		return
	}
	for _, item := range other.Items {
		if item.Kind == Map {
			n.merge(item, places)
		}
	}
	for _, p := range other.Pairs {
		if _, there := places[p.Key]; !there {
			n.put(p, false, places)
		}
	}
}

// The methods below read a foreign file, of which anything may be missing or
// of another kind: they work on a nil Node and give the default then.

// Field is the value at the end of a path of field names; nil when it is not
// there or is null.
func (n *Node) Field(path ...string) *Node {
	for _, name := range path {
		if n == nil {
			return nil
		}
		i := slices.IndexFunc(n.Pairs, func(p Pair) bool { return p.Key == name })
		if i < 0 {
			return nil
		}
		n = n.Pairs[i].Value
	}
	if n == nil || n.Kind == Null {
		return nil
	}
	return n
}

// LineOf is the line of the deepest field of the path that is there; that of n
// itself when not even the first is.
func (n *Node) LineOf(path ...string) int {
	line := n.Line
	for _, name := range path {
		i := slices.IndexFunc(n.Pairs, func(p Pair) bool { return p.Key == name })
		if i < 0 {
			break
		}
		line, n = n.Pairs[i].Line, n.Pairs[i].Value
	}
	return line
}

// Scalar is the text of a scalar, however it is written.
func (n *Node) Scalar() string {
	if n == nil || n.Kind == Map || n.Kind == List || n.Kind == Null {
		return ""
	}
	return n.Text
}

// Truth is a bool, also one written as text.
func (n *Node) Truth(otherwise bool) bool {
	switch strings.ToLower(n.Scalar()) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off":
		return false
	}
	return otherwise
}

// Whole is a whole number, also one written as text.
func (n *Node) Whole(otherwise int) int {
	if i, err := strconv.Atoi(n.Scalar()); err == nil {
		return i
	}
	return otherwise
}

// Elements are the items of a list; nil when it is none.
func (n *Node) Elements() []*Node {
	if n == nil {
		return nil
	}
	return n.Items
}

// Scalars are the scalars of a list, or the one scalar that stands instead.
func (n *Node) Scalars() []string {
	if n == nil {
		return nil
	}
	if n.Kind != List {
		if s := n.Scalar(); s != "" {
			return []string{s}
		}
		return nil
	}
	list := make([]string, 0, len(n.Items))
	for _, item := range n.Items {
		list = append(list, item.Scalar())
	}
	return list
}

// Texts is a map of scalars; empty, never nil.
func (n *Node) Texts() map[string]string {
	m := map[string]string{}
	if n != nil {
		for _, p := range n.Pairs {
			m[p.Key] = p.Value.Scalar()
		}
	}
	return m
}

// Empty says whether there is nothing: no field, no item, no text.
func (n *Node) Empty() bool {
	return n == nil || len(n.Pairs) == 0 && len(n.Items) == 0 && n.Scalar() == ""
}
