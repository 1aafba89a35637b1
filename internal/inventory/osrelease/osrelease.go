// Package osrelease reads os-release files (os-release(5)): which distribution
// an image is made of.
package osrelease

import (
	"strings"

	"github.com/breakwater-sec/breakwater/internal/inventory"
)

const maxSize = 64 << 10 // bytes; real ones are below 1 KiB

// Reader is the inventory's Release.
type Reader struct{}

// Wants the two places that os-release(5) names.
func (Reader) Wants(path string) bool {
	return path == "etc/os-release" || path == "usr/lib/os-release"
}

// Extract reads the file.
func (Reader) Extract(f inventory.File) (inventory.Distro, error) {
	data, err := inventory.ReadAll(f, maxSize)
	if err != nil {
		return inventory.Distro{}, err
	}
	return Parse(string(data)), nil
}

// Parse reads shell-like assignments. Lines that are none are ignored, as the
// format's own readers do.
func Parse(s string) inventory.Distro {
	v := map[string]string{}
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			v[key] = unquote(value)
		}
	}
	return inventory.Distro{ID: strings.ToLower(v["ID"]), Version: v["VERSION_ID"], Codename: v["VERSION_CODENAME"], Name: v["PRETTY_NAME"]}
}

// unquote takes one layer of quotes off and resolves backslash escapes.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
