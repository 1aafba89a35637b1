package dockerfile

import (
	"path"
	"slices"
	"strings"
)

// Command is one simple command of a shell line.
type Command struct {
	Program   string   `json:"program"`   // base name, without sudo, env and the like
	Args      []string `json:"args"`      // all of them
	Words     []string `json:"words"`     // those that are no flags
	Flags     []string `json:"flags"`     // those that begin with "-"
	Text      string   `json:"text"`      // program and args, joined by spaces
	Line      int      `json:"line"`      // where it stands
	Sudo      bool     `json:"sudo"`      // run by sudo
	Piped     bool     `json:"piped"`     // reads what the command before it writes
	PipesTo   string   `json:"pipesTo"`   // the program that reads what it writes; "" for none
	Variables []Pair   `json:"variables"` // NAME=value before the program
	WritesTo  []string `json:"writesTo"`  // files of > and >>
}

// commands takes a shell script apart, at most limit commands. It follows
// quotes, operators, subshells and `sh -c`; what a shell would compute stays as
// it is written.
func commands(text string, line func(offset int) int, limit int) []Command {
	return nested(text, line, limit, 0)
}

func nested(text string, line func(int) int, limit, depth int) []Command {
	s := scanner{text: text, line: line, limit: limit}
	s.scan()
	const deepest = 3
	if depth == deepest {
		return s.out
	}
	for _, c := range slices.Clone(s.out) {
		if i := slices.Index(c.Args, "-c"); isShell(c.Program) && i >= 0 && i+1 < len(c.Args) {
			at := c.Line
			s.out = append(s.out, nested(c.Args[i+1], func(int) int { return at }, limit-len(s.out), depth+1)...)
		}
	}
	return s.out
}

func isShell(program string) bool {
	return slices.Contains([]string{"sh", "bash", "ash", "dash", "zsh", "ksh"}, path.Base(strings.TrimPrefix(program, "#!")))
}

// scanner reads one script.
type scanner struct {
	text  string
	line  func(int) int
	limit int

	words    []string
	word     strings.Builder
	in       bool
	start    int  // offset of the command
	piped    bool // the command reads a pipe
	redirect bool // the next word is a file that is written
	skip     bool // the next word is a file that is read
	writes   []string
	out      []Command
}

func (s *scanner) scan() {
	for i := 0; i < len(s.text); i++ {
		switch c := s.text[i]; c {
		case '\\':
			if i++; i < len(s.text) && s.text[i] != '\n' {
				s.put(i, s.text[i:i+1])
			}
		case '\'', '"':
			end := closing(s.text, i)
			s.put(i, strings.ReplaceAll(s.text[i+1:end], `\"`, `"`))
			i = end
		case '$', '`':
			end := substitution(s.text, i)
			s.put(i, s.text[i:end])
			i = end - 1
		case ' ', '\t':
			s.endWord()
		case '#':
			if s.in {
				s.put(i, "#")
			} else {
				for i+1 < len(s.text) && s.text[i+1] != '\n' {
					i++
				}
			}
		case ';', '\n', '(', ')', '&', '|':
			i += s.operator(i)
		case '>', '<':
			i += s.redirection(i)
		default:
			s.put(i, s.text[i:i+1])
		}
	}
	s.endCommand("")
}

func (s *scanner) put(at int, text string) {
	if !s.in && len(s.words) == 0 && !s.redirect {
		s.start = at
	}
	s.in = true
	s.word.WriteString(text)
}

// closing is the offset of the quote that ends the one at i.
func closing(text string, i int) int {
	quote := text[i]
	for j := i + 1; j < len(text); j++ {
		if text[j] == '\\' && quote == '"' {
			j++
		} else if text[j] == quote {
			return j
		}
	}
	return len(text)
}

// substitution is the end of $(…), ${…} or `…` at i; of $NAME only the "$".
func substitution(text string, i int) int {
	if text[i] == '`' {
		return min(closing(text, i)+1, len(text))
	}
	if i+1 >= len(text) || text[i+1] != '(' && text[i+1] != '{' {
		return i + 1
	}
	open, shut, depth := text[i+1], byte(')'), 0
	if open == '{' {
		shut = '}'
	}
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return j + 1
			}
		}
	}
	return len(text)
}

// operator ends a command and says how many more characters it took.
func (s *scanner) operator(i int) int {
	c := s.text[i]
	double := i+1 < len(s.text) && s.text[i+1] == c && (c == '&' || c == '|' || c == ';')
	switch {
	case double:
		s.endCommand("")
		return 1
	case c == '|':
		s.endCommand("|")
		s.piped = true
		if i+1 < len(s.text) && s.text[i+1] == '&' {
			return 1
		}
	case c == '&' && i+1 < len(s.text) && s.text[i+1] == '>': // &> file
		s.endWord()
		s.redirect = true
		return 1
	default:
		s.endCommand("")
	}
	return 0
}

// redirection reads > >> >& < << <<< and their numbers.
func (s *scanner) redirection(i int) int {
	if number := s.word.String(); s.in && (number == "1" || number == "2") {
		s.word.Reset()
		s.in = false
	}
	s.endWord()
	n := 0
	for i+n+1 < len(s.text) && (s.text[i+n+1] == s.text[i] || s.text[i+n+1] == '&') {
		n++
	}
	s.redirect, s.skip = s.text[i] == '>', s.text[i] == '<'
	return n
}

func (s *scanner) endWord() {
	if !s.in {
		return
	}
	word := s.word.String()
	switch {
	case s.redirect:
		s.writes = append(s.writes, word)
	case !s.skip:
		s.words = append(s.words, word)
	}
	s.word.Reset()
	s.in, s.redirect, s.skip = false, false, false
}

// keywords of the shell stand before commands and are none.
var keywords = strings.Fields("if then else elif fi do done while until ! { } time exec command nohup eval")

func (s *scanner) endCommand(operator string) {
	s.endWord()
	words := s.words
	for len(words) > 0 && slices.Contains(keywords, words[0]) {
		words = words[1:]
	}
	if len(words) > 0 && len(s.out) < s.limit {
		c := simple(words, s.line(s.start))
		c.Piped = s.piped
		c.WritesTo = append(c.WritesTo, s.writes...)
		if s.piped && len(s.out) > 0 {
			s.out[len(s.out)-1].PipesTo = c.Program
		}
		s.out = append(s.out, c)
	}
	s.words, s.writes = nil, nil
	s.redirect, s.skip = false, false
	s.piped = operator == "|"
}

// simple is the command of these words.
func simple(words []string, line int) Command {
	c := Command{Line: line, Args: []string{}, Words: []string{}, Flags: []string{}, Variables: []Pair{}, WritesTo: []string{}}
	for len(words) > 0 {
		name, value, set := strings.Cut(words[0], "=")
		switch {
		case set && variableName(name):
			c.Variables = append(c.Variables, Pair{name, value, true})
		case path.Base(words[0]) == "sudo":
			c.Sudo = true
		case path.Base(words[0]) == "env" && len(words) > 1:
		default:
			c.arguments(words)
			return c
		}
		words = words[1:]
	}
	return c
}

func (c *Command) arguments(words []string) {
	c.Program, c.Text = path.Base(words[0]), strings.Join(words, " ")
	for _, w := range words[1:] {
		c.Args = append(c.Args, w)
		if strings.HasPrefix(w, "-") && len(w) > 1 {
			c.Flags = append(c.Flags, w)
		} else {
			c.Words = append(c.Words, w)
		}
	}
}

func variableName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i], i == 0) {
			return false
		}
	}
	return s != ""
}
