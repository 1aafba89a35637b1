package policy

import (
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// hostPattern is a pattern of paths of the host: "*" and "?" stand for
// characters of one name, a "**" at the end for the folder itself and
// everything below it, a "**" in the middle for any number of folders.
type hostPattern struct {
	text  string
	parts []string
}

func parseHostPatterns(v document.Value) []hostPattern {
	var list []hostPattern
	v.List(maxPatterns, func(v document.Value) {
		text := v.String()
		if text == "" {
			return
		}
		if problem := badHostPattern(text); problem != "" {
			v.Fail("%q %s", text, problem)
			return
		}
		list = append(list, hostPattern{text: text, parts: split(hostPath(text))})
	})
	return list
}

func badHostPattern(text string) string {
	switch {
	case !strings.HasPrefix(text, "/"):
		return "is not an absolute path"
	case strings.Count(text, "**") > 2:
		return "has more than two \"**\""
	}
	for _, part := range split(text) {
		if part == ".." || part == "." {
			return "must not have \".\" or \"..\" in it"
		}
		if part != "**" && strings.Contains(part, "**") {
			return "has a \"**\" that is not a whole name"
		}
		if _, err := path.Match(part, ""); err != nil {
			return "is not a pattern: " + err.Error()
		}
	}
	return ""
}

// processRoot is the way round through the root of a process or thread.
var processRoot = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/proc/[^/]+(/task/[^/]+)?/root(/|$)`) })

// hostPath gives a path one spelling: cleaned, the links that every
// distribution has followed, and the way round through a process's root taken
// out. Other links must be resolved by who gathers the facts.
func hostPath(p string) string {
	p = path.Clean("/" + p)
	for {
		m := processRoot().FindString(p)
		if m == "" {
			break
		}
		p = path.Clean("/" + p[len(m):])
	}
	for _, link := range [][2]string{{"/var/run", "/run"}, {"/var/lock", "/run/lock"}} {
		if p == link[0] || strings.HasPrefix(p, link[0]+"/") {
			return link[1] + p[len(link[0]):]
		}
	}
	return p
}

func split(p string) []string {
	p = strings.Trim(p, "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// matches says whether the pattern stands for that very path.
func (h hostPattern) matches(p string) bool { return match(h.parts, split(hostPath(p)), false) }

// exposedBy says whether a mount of source makes reachable what the pattern
// stands for: source matches it, or is a folder above something that would.
func (h hostPattern) exposedBy(source string) bool {
	return match(h.parts, split(hostPath(source)), true)
}

// match compares name by name; with above, a path that ends early, where the
// pattern would go on below it, matches too.
func match(pattern, names []string, above bool) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			return matchTree(pattern, names, above)
		}
		if len(names) == 0 {
			return above
		}
		if ok, err := path.Match(pattern[0], names[0]); err != nil || !ok {
			return false
		}
		pattern, names = pattern[1:], names[1:]
	}
	return len(names) == 0
}

func matchTree(pattern, names []string, above bool) bool {
	if len(pattern) == 1 || above && len(names) == 0 {
		return true
	}
	for skip := 0; skip <= len(names); skip++ {
		if match(pattern[1:], names[skip:], above) {
			return true
		}
	}
	return false
}
