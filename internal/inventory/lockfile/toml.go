package lockfile

import (
	"bytes"
	"iter"
	"strings"
)

// Table is one table of a TOML file: [name] or an element of [[name]].
type Table struct {
	Name string
	// Values holds what stands on one line: strings without their quotes,
	// everything else (numbers, arrays, inline tables) as it is written.
	Values map[string]string
}

// Tables reads the tables of a TOML file in their order, the part before the
// first header under the name "". Values over several lines are left out. The
// Table is valid until the next one.
func Tables(data []byte) iter.Seq[Table] {
	return func(yield func(Table) bool) {
		t := Table{Values: map[string]string{}}
		s := skipper{}
		for line := range bytes.Lines(data) {
			line = bytes.TrimSpace(line)
			if s.inside(line) || len(line) == 0 || line[0] == '#' {
				continue
			}
			if line[0] == '[' {
				if !yield(t) {
					return
				}
				t.Name = header(string(line))
				clear(t.Values)
				continue
			}
			key, value, ok := strings.Cut(string(line), "=")
			if !ok {
				continue
			}
			if value = strings.TrimSpace(value); !s.begins(value) {
				t.Values[unquote(strings.TrimSpace(key))] = tomlValue(value)
			}
		}
		yield(t)
	}
}

func header(line string) string {
	line = strings.TrimLeft(line, "[")
	name, _, _ := strings.Cut(line, "]")
	return strings.TrimSpace(name)
}

// tomlValue takes a trailing comment from what is no string.
func tomlValue(v string) string {
	if v == "" || v[0] != '"' && v[0] != '\'' {
		if v != "" && v[0] != '{' && v[0] != '[' {
			v, _, _ = strings.Cut(v, "#")
		}
		return strings.TrimSpace(v)
	}
	if i := strings.IndexByte(v[1:], v[0]); i >= 0 {
		return v[1 : i+1]
	}
	return ""
}

// Inline gives the string under a key of an inline table, { key = "value" }.
func Inline(table, key string) string {
	rest := table
	for {
		i := strings.Index(rest, key)
		if i < 0 {
			return ""
		}
		before, after := rest[:i], strings.TrimLeft(rest[i+len(key):], " \"'")
		if value, ok := strings.CutPrefix(after, "="); ok && strings.ContainsAny(lastByte(before), " ,{\"'") {
			return tomlValue(strings.TrimLeft(value, " "))
		}
		rest = rest[i+len(key):]
	}
}

func lastByte(s string) string {
	if s == "" {
		return ""
	}
	return s[len(s)-1:]
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// skipper passes over values of several lines.
type skipper struct {
	until string // """ or '''
	depth int    // of brackets
}

func (s *skipper) inside(line []byte) bool {
	switch {
	case s.until != "":
		if bytes.Contains(line, []byte(s.until)) {
			s.until = ""
		}
		return true
	case s.depth > 0:
		s.depth += brackets(string(line))
		return true
	}
	return false
}

func (s *skipper) begins(value string) bool {
	for _, quotes := range []string{`"""`, "'''"} {
		if rest, ok := strings.CutPrefix(value, quotes); ok {
			if !strings.Contains(rest, quotes) {
				s.until = quotes
			}
			return true
		}
	}
	if value != "" && (value[0] == '[' || value[0] == '{') {
		s.depth = max(brackets(value), 0)
	}
	return s.depth > 0
}

// brackets counts how many more open than close, outside of strings.
func brackets(line string) (n int) {
	quote := byte(0)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '[' || c == '{':
			n++
		case c == ']' || c == '}':
			n--
		case c == '#':
			return n
		}
	}
	return n
}
