package dockerfile

import (
	"encoding/json"
	"strings"
)

// words splits as the builder does: at white space outside of quotes, quotes
// and escapes removed.
func (b *builder) words(text string) []string {
	var list []string
	var word strings.Builder
	in := false
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == b.escape && quote != '\'' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			if in {
				list = append(list, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		list = append(list, word.String())
	}
	return list
}

// jsonForm reads the form ["a", "b"].
func jsonForm(text string) ([]string, bool) {
	if !strings.HasPrefix(text, "[") {
		return nil, false
	}
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	return list, true
}

// flags takes the leading --name=value off.
func (one *raw) flags() map[string]string {
	flags := map[string]string{}
	for strings.HasPrefix(one.text, "--") {
		end := strings.IndexAny(one.text, " \t\n")
		if end < 0 {
			end = len(one.text)
		}
		name, value, _ := strings.Cut(one.text[2:end], "=")
		if flags[name] != "" {
			value = flags[name] + " " + value
		}
		flags[name] = value
		rest := strings.TrimLeft(one.text[end:], " \t\n")
		one.shift(len(one.text) - len(rest))
		one.text = rest
	}
	return flags
}

func (one *raw) shift(by int) {
	for i := range one.starts {
		one.starts[i].offset -= by
	}
}

// variables are build arguments and environment, by name.
type variables map[string]string

// expand puts variables in, as long as all that was put in is not too much: then
// the text is empty and known is false.
func (b *builder) expand(v variables, text string) (out string, known bool) {
	out, known = v.expand(text, b.escape, b.room)
	b.room -= len(out)
	return out, known
}

// expand puts variables in: $NAME, ${NAME}, ${NAME:-default}, ${NAME:+other}.
// known is false when one of them has no value, or when the text would be longer
// than limit.
func (v variables) expand(text string, escape byte, limit int) (out string, known bool) {
	var b strings.Builder
	known = true
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == escape && i+1 < len(text) && text[i+1] == '$':
			b.WriteByte('$')
			i++
		case c == '$' && i+1 < len(text):
			value, width, ok := v.variable(text[i+1:])
			if width == 0 {
				b.WriteByte(c)
				continue
			}
			known = known && ok
			b.WriteString(value)
			i += width
		default:
			b.WriteByte(c)
		}
		if b.Len() > limit { // values that hold values, again and again
			return "", false
		}
	}
	return b.String(), known
}

// variable reads what follows "$"; width is 0 when it is no variable.
func (v variables) variable(text string) (value string, width int, known bool) {
	if text[0] != '{' {
		for width < len(text) && nameByte(text[width], width == 0) {
			width++
		}
		value, known = v[text[:width]]
		return value, width, known
	}
	end := strings.IndexByte(text, '}')
	if end < 0 {
		return "", 0, false
	}
	inner := text[1:end]
	name := inner
	for i := range len(inner) {
		if !nameByte(inner[i], i == 0) {
			name = inner[:i]
			break
		}
	}
	value, known = v[name]
	switch rest := inner[len(name):]; {
	case strings.HasPrefix(rest, ":-"), strings.HasPrefix(rest, "-"):
		if value == "" {
			value = strings.TrimPrefix(strings.TrimPrefix(rest, ":"), "-")
		}
		known = true
	case strings.HasPrefix(rest, ":+"), strings.HasPrefix(rest, "+"):
		if value != "" {
			value = strings.TrimPrefix(strings.TrimPrefix(rest, ":"), "+")
		}
		known = true
	}
	return value, end + 1, known
}

func nameByte(c byte, first bool) bool {
	return c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || !first && c >= '0' && c <= '9'
}
