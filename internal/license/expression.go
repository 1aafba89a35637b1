// Package license reads what packages and files state as their licence: SPDX
// expressions, their many other spellings, Debian's copyright files and the
// texts of licences themselves.
package license

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of an expression.
const (
	maxExpression = 2000 // bytes
	maxDepth      = 20
)

// Expression is a parsed SPDX expression. The zero value is not valid.
type Expression struct {
	operator string // "", AND, OR
	id       string // of a leaf: an id, or "ID WITH EXCEPTION"
	parts    []Expression
}

// Parse reads an SPDX expression: ids, WITH, AND, OR and parentheses, in any
// case. Ids themselves are not checked against a list.
func Parse(text string) (Expression, error) {
	if len(text) > maxExpression {
		return Expression{}, fmt.Errorf("a licence expression of %d bytes is longer than %d", len(text), maxExpression)
	}
	p := parser{words: words(text)}
	e, err := p.any(0)
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q does not belong there", p.words[0])
	}
	if err != nil {
		return Expression{}, fmt.Errorf("licence expression %q: %w", text, err)
	}
	return e, nil
}

func words(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
}

type parser struct{ words []string }

var (
	errEnd   = errors.New("ends too early")
	errDepth = fmt.Errorf("is nested deeper than %d", maxDepth)
)

// any reads alternatives: OR binds less than AND.
func (p *parser) any(depth int) (Expression, error) {
	return p.list("OR", depth, func() (Expression, error) {
		return p.list("AND", depth, func() (Expression, error) { return p.one(depth) })
	})
}

func (p *parser) list(operator string, depth int, part func() (Expression, error)) (Expression, error) {
	if depth > maxDepth {
		return Expression{}, errDepth
	}
	first, err := part()
	if err != nil {
		return first, err
	}
	e := Expression{operator: operator, parts: []Expression{first}}
	for p.next(operator) {
		next, err := part()
		if err != nil {
			return e, err
		}
		e.parts = append(e.parts, next)
	}
	if len(e.parts) == 1 {
		return first, nil
	}
	return e, nil
}

// next takes the word if it is that operator.
func (p *parser) next(operator string) bool {
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], operator) {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) one(depth int) (Expression, error) {
	if p.next("(") {
		e, err := p.any(depth + 1)
		if err == nil && !p.next(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return e, err
	}
	id, err := p.id()
	if err != nil {
		return Expression{}, err
	}
	if p.next("WITH") {
		exception, err := p.id()
		if err != nil {
			return Expression{}, err
		}
		id += " WITH " + exception
	}
	return Expression{id: id}, nil
}

func (p *parser) id() (string, error) {
	if len(p.words) == 0 {
		return "", errEnd
	}
	w := p.words[0]
	for _, operator := range [...]string{"AND", "OR", "WITH", "(", ")"} {
		if strings.EqualFold(w, operator) {
			return "", fmt.Errorf("%q stands where a licence should", w)
		}
	}
	if i := strings.IndexFunc(w, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != ':'
	}); i >= 0 {
		return "", fmt.Errorf("%q is not an id", w)
	}
	p.words = p.words[1:]
	return w, nil
}

// String is the expression in its canonical form.
func (e Expression) String() string {
	if e.operator == "" {
		return e.id
	}
	parts := make([]string, len(e.parts))
	for i, p := range e.parts {
		parts[i] = p.String()
		if e.operator == "AND" && p.operator == "OR" {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	return strings.Join(parts, " "+e.operator+" ")
}

// Holds says whether the expression can be met by licences that pass: every
// part of an AND, one part of an OR. An id with an exception is asked for as a
// whole, "ID WITH EXCEPTION".
func (e Expression) Holds(passes func(id string) bool) bool {
	switch e.operator {
	case "":
		return passes(e.id)
	case "OR":
		for _, p := range e.parts {
			if p.Holds(passes) {
				return true
			}
		}
		return false
	}
	for _, p := range e.parts {
		if !p.Holds(passes) {
			return false
		}
	}
	return true
}

// rename gives every id its SPDX name.
func (e Expression) rename(name func(string) string) Expression {
	if e.operator == "" {
		id, exception, with := strings.Cut(e.id, " WITH ")
		if id = name(id); with {
			return Expression{id: id + " WITH " + exception}
		}
		if several, err := Parse(id); err == nil { // "Perl" means one of two
			return several
		}
		return Expression{id: id}
	}
	out := Expression{operator: e.operator}
	for _, p := range e.parts {
		out.parts = append(out.parts, p.rename(name))
	}
	return out
}
