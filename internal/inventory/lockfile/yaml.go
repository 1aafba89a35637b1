package lockfile

import (
	"bytes"
	"iter"
	"strings"
)

// Line is one line of a YAML file in block style.
type Line struct {
	// Indent is the column of its content: of what stands behind "- " in an item.
	Indent int
	Item   bool // begins with "- "
	// Key is empty for an item that is a plain value. Quotes are taken off both.
	Key, Value string
}

// Outline reads the lines of a YAML file that programs write: mappings and
// sequences in block style, values on their line. Comments and the text of
// block scalars are passed over.
func Outline(data []byte) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		scalar := -1 // indent of the key whose text follows
		for raw := range bytes.Lines(data) {
			text := strings.TrimRight(string(raw), " \r\n\t")
			body := strings.TrimLeft(text, " ")
			indent := len(text) - len(body)
			if body == "" || body[0] == '#' {
				continue
			}
			if scalar >= 0 && indent > scalar {
				continue
			}
			scalar = -1
			l := line(indent, body)
			if l.Value == "|" || l.Value == ">" || l.Value == "|-" || l.Value == ">-" {
				scalar, l.Value = indent, ""
			}
			if !yield(l) {
				return
			}
		}
	}
}

func line(indent int, body string) Line {
	l := Line{Indent: indent}
	for strings.HasPrefix(body, "- ") {
		rest := strings.TrimLeft(body[2:], " ")
		l.Indent += len(body) - len(rest)
		l.Item, body = true, rest
	}
	key, value, ok := keyValue(body)
	if !ok {
		l.Value = scalar(body)
		return l
	}
	l.Key, l.Value = unquote(key), scalar(value)
	return l
}

// keyValue cuts at the first ": " outside of quotes, or at a final ":".
func keyValue(body string) (key, value string, ok bool) {
	from := 0
	if body != "" && (body[0] == '"' || body[0] == '\'') {
		end := strings.IndexByte(body[1:], body[0])
		if end < 0 {
			return "", "", false
		}
		from = end + 2
	}
	if i := strings.Index(body[from:], ": "); i >= 0 {
		return strings.TrimRight(body[:from+i], " "), strings.TrimLeft(body[from+i+2:], " "), true
	}
	if key, ok := strings.CutSuffix(body, ":"); ok && len(key) >= from {
		return key, "", true
	}
	return "", "", false
}

func scalar(v string) string {
	if v == "" {
		return ""
	}
	if v[0] == '"' || v[0] == '\'' {
		if i := strings.IndexByte(v[1:], v[0]); i >= 0 {
			return v[1 : i+1]
		}
		return v
	}
	if i := strings.Index(v, " #"); i >= 0 {
		v = strings.TrimRight(v[:i], " ")
	}
	return v
}
