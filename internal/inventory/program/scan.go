package program

import (
	"bytes"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
)

const (
	number = "{number}"
	around = 256 // bytes on both sides of a found text
	// Overlap is how many bytes of one window the next repeats, so that evidence
	// is whole in one of them.
	Overlap = 2*around + 64
	// maxHits bounds how often one text is looked at in one file.
	maxHits = 20_000
)

// Search looks for the programs that one file can be, window after window.
type Search struct {
	programs []*Program
	evidence [][]evidence
	version  []string
	left     int
}

// Search starts with a file; it is nil when no program has its name.
func (t *Table) Search(base string) *Search { return newSearch(t.of(base), base) }

func newSearch(programs []*Program, base string) *Search {
	if len(programs) == 0 {
		return nil
	}
	s := &Search{programs: programs, version: make([]string, len(programs)), left: maxHits}
	for _, p := range programs {
		s.evidence = append(s.evidence, p.forFile(base))
	}
	return s
}

var inName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\d+(?:\.\d+)*`) })

// forFile puts the number of a file's name into the evidence that asks for it:
// 3.11 of python3.11 and libpython3.11.so.1.0, any such number else.
func (p *Program) forFile(base string) []evidence {
	out := append([]evidence(nil), p.evidence...)
	stem, _, _ := strings.Cut(base, ".so")
	n := inName().FindString(stem)
	find, pattern := n, regexp.QuoteMeta(n)
	if !strings.Contains(n, ".") {
		find, pattern = "", `\d+\.\d+`
	}
	for i := range out {
		out[i].find = strings.ReplaceAll(out[i].find, number, find)
		out[i].pattern = strings.ReplaceAll(out[i].pattern, number, pattern)
	}
	return out
}

// Window takes the next part of the file and says whether everything is found.
func (s *Search) Window(data []byte) (done bool) {
	done = true
	for i := range s.programs {
		if s.version[i] == "" {
			s.version[i] = s.look(s.evidence[i], data)
		}
		done = done && s.version[i] != ""
	}
	return done || s.left <= 0
}

func (s *Search) look(list []evidence, data []byte) string {
	for i := range list {
		e := &list[i]
		for from := 0; s.left > 0; {
			at := bytes.Index(data[from:], []byte(e.find))
			if at < 0 {
				break
			}
			at += from
			s.left--
			part := data[max(0, at-around):min(len(data), at+len(e.find)+around)]
			if e.version == nil {
				e.version = regexp.MustCompile(e.pattern) // the table's tests compile all
			}
			if m := e.version.FindSubmatchIndex(part); m != nil {
				if e.as != "" {
					return string(e.version.Expand(nil, []byte(e.as), part, m))
				}
				return string(part[m[2]:m[3]])
			}
			from = at + len(e.find)
		}
	}
	return ""
}

// Packages are the programs found.
func (s *Search) Packages() []event.Package {
	var out []event.Package
	for i, p := range s.programs {
		if s.version[i] == "" {
			continue
		}
		if found := p.pkg(s.version[i]); found.Name != "" {
			out = append(out, found)
		}
	}
	return out
}
