package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes text of unknown origin fit for a terminal: control
// characters, bidirectional overrides and invalid UTF-8 become visible
// replacements, so that a package's name can neither recolour the screen nor
// rewrite lines above it.
func Printable(s string) string {
	if plain(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), !unicode.IsGraphic(r):
			return '\uFFFD'
		}
		return r
	}, s)
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
