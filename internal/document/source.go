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
}

func newSource(name string, data []byte) *source {
	s := &source{name: name}
	if len(data) > MaxBytes { // refused anyway
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
	return n.walk(skip)
}

// walk finds the character that follows skip visible ones.
func (n *Node) walk(skip int) (line, column int) {
	line, column = n.Line, n.Column
	switch n.quote {
	case '\'', '"':
		column++
	case '|', '>':
		line, column = line+1, 1
	}
	lastLine, lastColumn := line, column
	for ; line <= len(n.source.lines); line, column = line+1, 1 {
		row := n.source.lines[line-1]
		for column <= len(row) {
			width := n.width(row, column-1)
			if unicode.IsSpace(row[column-1]) {
				column++
				continue
			}
			if skip == 0 {
				return line, column
			}
			skip--
			column += width
			lastLine, lastColumn = line, column
		}
		if skip == 0 && lastLine == line { // the end of the text
			return lastLine, lastColumn
		}
	}
	return lastLine, lastColumn
}

// width is how many characters of the file make the one that starts at i.
func (n *Node) width(row []rune, i int) int {
	if i+1 >= len(row) {
		return 1
	}
	if n.quote == '"' && row[i] == '\\' || n.quote == '\'' && row[i] == '\'' && row[i+1] == '\'' {
		return 2
	}
	return 1
}
