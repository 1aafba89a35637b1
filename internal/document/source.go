package document

import (
	"fmt"
	"strings"
	"unicode"
)

// source is the text of a file by lines of characters.
type source struct {
	name  string
	lines [][]rune
	how   manner
}

func newSource(name string, data []byte, how manner) *source {
	s := &source{name: name, how: how}
	if len(data) > how.bytes { // refused anyway
		return s
	}
	for _, line := range strings.Split(string(data), "\n") {
		s.lines = append(s.lines, []rune(strings.TrimSuffix(line, "\r")))
	}
	return s
}

func (s *source) fail(line, column int, format string, args ...any) *Error {
	return &Error{File: s.name, Line: max(line, 1), Column: max(column, 1), Message: fmt.Sprintf(format, args...)}
}

// part is one document of a file.
type part struct {
	text   string
	before int // lines of the file before it
}

// blank says whether there is nothing but comments.
func (p part) blank() bool {
	for line := range strings.Lines(p.text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// split takes the file apart at the lines that YAML reserves for it: "---" and
// "..." at the beginning of a line never are part of a value. The library
// loses documents that follow an empty one, so this is not left to it.
func (s *source) split() []part {
	parts := []part{{}}
	var text strings.Builder
	for i, row := range s.lines {
		line := string(row)
		if marker(line, "---") || marker(line, "...") {
			parts[len(parts)-1].text = text.String()
			text.Reset()
			parts = append(parts, part{before: i})
			line = "   " + line[3:] // a value may follow on the line
		}
		text.WriteString(line)
		text.WriteByte('\n')
	}
	parts[len(parts)-1].text = text.String()
	return parts
}

func marker(line, mark string) bool {
	rest, ok := strings.CutPrefix(line, mark)
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t')
}

// At says where in the file character number offset (from 0) of n.Text stands,
// however the text was written: plain, quoted, or as a block over several
// lines. YAML changes nothing of a text but white space and escapes, so the
// characters that are not white space are counted off against the file.
func (n *Node) At(offset int) (line, column int) {
	text := []rune(n.Text)
	if n.Kind != String || n.source == nil || offset < 0 {
		return n.Line, n.Column
	}
	offset = min(offset, len(text))
	skip := 0
	for _, r := range text[:offset] {
		if !unicode.IsSpace(r) {
			skip++
		}
	}
	return n.walk(skip, strings.TrimSpace(string(text[offset:])) == "")
}

// walk finds the character that follows skip visible ones; last says that
// there is none, so that the place is the end of the text.
func (n *Node) walk(skip int, last bool) (line, column int) {
	line, column = n.Line, n.Column
	switch n.quote {
	case '\'', '"':
		column++
	case '|', '>':
		line, column = line+1, 1
	}
	endLine, endColumn := line, column
	for ; line <= len(n.source.lines); line, column = line+1, 1 {
		row := n.source.lines[line-1]
		for column <= len(row) {
			if skip == 0 && last {
				return endLine, endColumn
			}
			width, visible := n.glyph(row[column-1:])
			if visible && skip == 0 {
				return line, column
			}
			column += width
			if visible {
				skip--
				endLine, endColumn = line, column
			}
		}
	}
	return endLine, endColumn
}

// glyph says how many characters of the file make the next one of the text,
// and whether that is visible.
func (n *Node) glyph(rest []rune) (width int, visible bool) {
	switch {
	case n.quote == '"' && rest[0] == '\\':
		return escape(rest)
	case n.quote == '\'' && rest[0] == '\'' && len(rest) > 1 && rest[1] == '\'':
		return 2, true
	}
	return 1, !unicode.IsSpace(rest[0])
}

// escape measures an escape sequence of a double-quoted text (YAML 1.2, 5.7).
func escape(rest []rune) (width int, visible bool) {
	if len(rest) == 1 { // the line goes on in the next one
		return 1, false
	}
	switch rest[1] {
	case ' ', '\t', 't', 'n', 'r', 'v', 'f', 'N', '_', 'L', 'P':
		return 2, false
	case 'x':
		return 4, true
	case 'u':
		return 6, true
	case 'U':
		return 10, true
	}
	return 2, true
}
