package dockerfile

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// raw is one instruction as it stands in the file.
type raw struct {
	line     int
	name     string // as written
	text     string // the rest, continued lines joined as the builder does: by nothing
	starts   []lineStart
	heredocs []heredoc
}

// lineStart says that the text from offset on stands on that line.
type lineStart struct{ offset, line int }

// lineOf is the line of a place in the text.
func (one *raw) lineOf(offset int) int {
	line := one.line
	for _, s := range one.starts {
		if s.offset > offset {
			break
		}
		line = s.line
	}
	return line
}

type heredoc struct {
	name string
	line int // of the first line of the body
	body string
}

// reader takes a file apart into instructions.
type reader struct {
	lines  []string
	at     int // the next line, from 0
	escape byte
	syntax string
}

var directive = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^#\s*([A-Za-z]+)\s*=\s*(.*?)\s*$`) })

func newReader(text string) *reader {
	text = strings.TrimPrefix(text, "\ufeff")
	r := &reader{lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), escape: '\\'}
	if strings.HasPrefix(text, "#!") { // a file that can be executed
		r.at = 1
	}
	for ; r.at < len(r.lines); r.at++ { // directives stand before everything else
		m := directive().FindStringSubmatch(r.lines[r.at])
		if m == nil {
			break
		}
		switch strings.ToLower(m[1]) {
		case "escape":
			if m[2] == "`" {
				r.escape = '`'
			}
		case "syntax":
			r.syntax = m[2]
		case "check":
		default:
			return r
		}
	}
	return r
}

// instructions reads all of them. The problem is empty when the file is right.
func (r *reader) instructions() (list []raw, line int, problem string) {
	for r.at < len(r.lines) {
		if skip(r.lines[r.at]) {
			r.at++
			continue
		}
		one, problem := r.next()
		if problem != "" {
			return nil, one.line, problem
		}
		if list = append(list, one); len(list) > maxInstructions {
			return nil, one.line, fmt.Sprintf("has more than %d instructions", maxInstructions)
		}
	}
	return list, 0, ""
}

// skip says whether a line is empty or a comment.
func skip(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// next reads one instruction with its continued lines and here-documents.
func (r *reader) next() (raw, string) {
	one := raw{line: r.at + 1}
	var text strings.Builder
	for more := true; more && r.at < len(r.lines); r.at++ {
		line := r.lines[r.at]
		if text.Len() > 0 && skip(line) { // inside a continued instruction
			continue
		}
		line, more = r.cut(line)
		if text.Len() == 0 {
			line = strings.TrimLeft(line, " \t")
		}
		one.starts = append(one.starts, lineStart{text.Len(), r.at + 1})
		text.WriteString(line)
	}
	one.split(text.String())
	return one, r.bodies(&one)
}

// cut removes the escape character that continues a line.
func (r *reader) cut(line string) (string, bool) {
	trimmed := strings.TrimRight(line, " \t")
	if strings.HasSuffix(trimmed, string(r.escape)) {
		return trimmed[:len(trimmed)-1], true
	}
	return line, false
}

// split takes the name off the text and moves the line starts with it.
func (one *raw) split(text string) {
	end := strings.IndexAny(text, " \t\n")
	if end < 0 {
		end = len(text)
	}
	one.name = text[:end]
	rest := strings.TrimLeft(text[end:], " \t\n")
	cut := len(text) - len(rest)
	one.text = strings.TrimRight(rest, " \t\n")
	for i := range one.starts {
		one.starts[i].offset -= cut
	}
}

var opening = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^|\s)\d*<<(-?)(?:"([A-Za-z0-9_.]+)"|'([A-Za-z0-9_.]+)'|([A-Za-z0-9_.]+))`)
})

// bodies reads the here-documents that an instruction opens.
func (r *reader) bodies(one *raw) string {
	switch strings.ToUpper(one.name) {
	case "RUN", "COPY", "ADD":
	default:
		return ""
	}
	for _, m := range opening().FindAllStringSubmatch(one.text, -1) {
		doc := heredoc{name: m[2] + m[3] + m[4], line: r.at + 1}
		var body strings.Builder
		closed := false
		for ; r.at < len(r.lines) && !closed; r.at++ {
			line := r.lines[r.at]
			if m[1] == "-" {
				line = strings.TrimLeft(line, "\t")
			}
			if closed = line == doc.name; !closed {
				body.WriteString(line + "\n")
			}
		}
		if !closed {
			return fmt.Sprintf("the here-document %s has no end", doc.name)
		}
		doc.body = body.String()
		one.heredocs = append(one.heredocs, doc)
	}
	return ""
}
