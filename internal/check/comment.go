package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// comment is one request in a file to leave a check's results out:
//
//	# breakwater:ignore ID [until YYYY-MM-DD] REASON
//	# breakwater:ignore-file ID [until YYYY-MM-DD] REASON
//
// The first one stands at the end of the line in question, or on lines of its
// own before it; the second one anywhere, and counts for the whole file.
type comment struct {
	line   int // where it stands
	target int // the line it counts for; 0 for the whole file
	id     string
	reason string
	until  time.Time
	wrong  string // why it does not count
}

type comments struct {
	path string
	list []*comment
}

var (
	request = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^|\s)#\s*breakwater:ignore(-file)?(?:\s+(.*))?$`) })
	until   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^until\s+(\S+)\s*`) })
)

// maxComments is how many requests of one file are followed.
const maxComments = 1_000

func readComments(path, text string) comments {
	cs := comments{path: path}
	var waiting []*comment // for the next line that is no comment
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		alone := strings.HasPrefix(strings.TrimSpace(line), "#")
		if m := request().FindStringSubmatch(line); m != nil && len(cs.list) < maxComments {
			c := parseComment(i+1, m[2])
			cs.list = append(cs.list, c)
			switch {
			case m[1] != "":
			case alone:
				waiting = append(waiting, c)
				c.target = -1
			default:
				c.target = i + 1
			}
		}
		if alone || line == "" {
			continue
		}
		for _, c := range waiting {
			c.target = i + 1
		}
		waiting = nil
	}
	return cs
}

func parseComment(line int, text string) *comment {
	c := &comment{line: line}
	c.id, text, _ = strings.Cut(strings.TrimSpace(text), " ")
	text = strings.TrimSpace(text)
	if m := until().FindStringSubmatch(text); m != nil {
		end, err := time.Parse(time.DateOnly, m[1])
		if err != nil {
			c.wrong = fmt.Sprintf("%q is no date: write until YYYY-MM-DD", m[1])
		}
		c.until, text = end, text[len(m[0]):]
	}
	c.reason = strings.TrimLeft(text, ":-– ")
	if c.reason == "" && c.wrong == "" {
		c.wrong = "has no reason: write one after the id"
	}
	return c
}

// gaps says which requests do not count.
func (cs comments) gaps(checks *Checks, now time.Time) (out []string) {
	for _, c := range cs.list {
		why := c.wrong
		switch {
		case c.id == "":
			why = "names no check"
		case checks.byID[c.id] == nil:
			why = fmt.Sprintf("names the check %q, which does not exist", c.id)
		case why == "" && c.over(now):
			why = "ended on " + c.until.Format(time.DateOnly)
		}
		if why != "" {
			out = append(out, fmt.Sprintf("%s:%d: breakwater:ignore %s", cs.path, c.line, why))
		}
	}
	return out
}

// over says whether the last day has passed, in UTC.
func (c *comment) over(now time.Time) bool {
	return !c.until.IsZero() && !now.Before(c.until.AddDate(0, 0, 1))
}

// ignores is the request that leaves v out, or nil.
func (cs comments) ignores(v violation, now time.Time) *comment {
	for _, c := range cs.list {
		if c.id == v.ID && c.wrong == "" && !c.over(now) && (c.target == 0 || slices.Contains(v.lines, c.target)) {
			return c
		}
	}
	return nil
}
