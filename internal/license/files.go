package license

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/licensecheck"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Files finds the licences that files state: scan's Examiner.
type Files struct{}

// maxText is the largest text that is compared with licences.
const maxText = 256 << 10

// least is how much of a text must be a licence's, in percent: below it the
// text speaks of licences among other things.
const least = 60

// Wants licence files by their names, and Debian's copyright files.
func (Files) Wants(path string, size int64, _ bool) bool {
	return size > 0 && size <= maxText && (isCopyright(path) || isLicense(path))
}

func isCopyright(path string) bool {
	return strings.HasPrefix(path, "usr/share/doc/") && strings.HasSuffix(path, "/copyright")
}

func isLicense(path string) bool {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, prefix := range [...]string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE", "license", "licence", "copying", "License", "Licence"} {
		rest, ok := strings.CutPrefix(name, prefix)
		if ok && (rest == "" || strings.IndexByte(".-_", rest[0]) >= 0 && !isCode(rest)) {
			return true
		}
	}
	return false
}

// isCode: programs are called license.go too.
func isCode(rest string) bool {
	return slices.Contains([]string{".go", ".js", ".ts", ".py", ".rb", ".php", ".java", ".h", ".c", ".json", ".html", ".pyc", ".mjs", ".cjs", ".map"}, rest[max(0, strings.LastIndexByte(rest, '.')):])
}

// Examine implements scan's Examiner.
func (Files) Examine(path string, content []byte) (event.Content, error) {
	if isCopyright(path) {
		if e := Copyright(content); e != "" {
			return stated(e, 1), nil
		}
	}
	found := licensecheck.Scan(content)
	var names []string
	for _, m := range found.Match {
		if !m.IsURL && !slices.Contains(names, m.ID) {
			names = append(names, m.ID)
		}
	}
	if len(names) == 0 || found.Percent < least && !isCopyright(path) {
		return event.Content{}, nil
	}
	e := All(names)
	if e == "" {
		return event.Content{}, fmt.Errorf("the licence %q has no name", names)
	}
	return stated(e, found.Percent/100), nil
}

func stated(expression string, confidence float64) event.Content {
	return event.Content{Licenses: []event.License{{Expression: expression, Confidence: confidence}}}
}
