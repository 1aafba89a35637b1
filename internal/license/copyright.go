package license

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const maxParagraphs = 2000

// Copyright reads the licences of a Debian copyright file: in its
// machine-readable form (DEP-5) those of all files but the packaging's own;
// else the licences of the system that it refers to. "" when it names none.
func Copyright(content []byte) string {
	if isDEP5(content) {
		return dep5(content)
	}
	var found []string
	for _, m := range common().FindAllSubmatch(content, 50) {
		// Whether "or later" holds stands in prose; the base is what is sure.
		found = append(found, string(m[1]))
	}
	return All(unique(found))
}

// common are the licences that Debian has installed once for all.
var common = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`/usr/share/common-licenses/((?:L?GPL|GFDL|Apache|MPL|CC0|Artistic|BSD)(?:-[0-9](?:\.[0-9])?)?)`)
})

func isDEP5(content []byte) bool {
	head := content[:min(len(content), 1000)]
	return bytes.HasPrefix(head, []byte("Format:")) || bytes.Contains(head, []byte("\nFormat:"))
}

func dep5(content []byte) string {
	var found []string
	for i, paragraph := range bytes.SplitN(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), []byte("\n\n"), maxParagraphs) {
		files, stated := field(paragraph, "Files:"), field(paragraph, "License:")
		if stated == "" || files == "" && i > 0 || files == "debian/*" {
			continue
		}
		if e := Normalise(dep5Expression(stated)); e != "" && !slices.Contains(found, e) {
			found = append(found, e)
		}
	}
	return All(found)
}

// dep5Expression takes Debian's way of writing exceptions out.
func dep5Expression(s string) string {
	if base, _, ok := strings.Cut(s, " with "); ok {
		return base
	}
	return s
}

// field is the first line of a field of a paragraph.
func field(paragraph []byte, name string) string {
	for line := range bytes.Lines(paragraph) {
		if len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			return strings.TrimSpace(string(line[len(name):]))
		}
	}
	return ""
}
