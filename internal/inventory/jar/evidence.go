package jar

import (
	"bytes"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// coordinates are Maven's.
type coordinates struct{ group, artifact, version string }

// named is what the name of an archive says.
type named struct {
	stem string // without the extension
	coordinates
}

// is says whether c describes the archive of that name.
func (c coordinates) is(file named) bool {
	return c.artifact != "" && (c.artifact == file.stem || strings.HasPrefix(file.stem, c.artifact+"-"))
}

// parseName splits name-1.2.3.jar before the last dash that begins a number
// with a dot (log4j-1.2-api-2.17.1), else before the first that begins one.
func parseName(name string) named {
	stem := name
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		stem = name[:i]
	}
	at := 0
	for i := 1; i+1 < len(stem); i++ {
		if stem[i] != '-' {
			continue
		}
		digits := len(stem[i+1:]) - len(strings.TrimLeft(stem[i+1:], "0123456789"))
		dotted := digits > 0 && digits < 8 && strings.HasPrefix(stem[i+1+digits:], ".") // longer ones are dates of snapshots
		if dotted || digits > 0 && at == 0 {
			at = i
		}
	}
	if at == 0 {
		return named{stem, coordinates{artifact: stem}}
	}
	return named{stem, coordinates{artifact: stem[:at], version: stem[at+1:]}}
}

// parsePom reads the three values of a pom.properties.
func parsePom(data []byte) (c coordinates) {
	for raw := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(raw)), "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "groupId":
			c.group = value
		case "artifactId":
			c.artifact = value
		case "version":
			c.version = value
		}
	}
	if strings.Contains(c.version, "${") {
		return coordinates{}
	}
	return c
}

// manifest is what counts of a main section.
type manifest struct{ title, version, vendor, symbolic, license string }

// parseManifest reads the main section; lines that begin with a blank go on.
func parseManifest(data []byte) (m manifest) {
	const maxLines = 2000
	var specified, bundled string
	take := func(line string) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "implementation-title":
			m.title = value
		case "implementation-version":
			m.version, _, _ = strings.Cut(value, " ")
		case "implementation-vendor-id":
			m.vendor = value
		case "specification-version":
			specified = value
		case "bundle-version":
			bundled = value
		case "bundle-symbolicname":
			m.symbolic, _, _ = strings.Cut(value, ";")
		case "bundle-license":
			if purl.Valid(value) && len(value) <= 80 && !strings.Contains(value, "://") {
				m.license, _, _ = strings.Cut(value, ";")
			}
		}
	}
	line, lines := "", 0
	for raw := range bytes.Lines(data) {
		text := strings.TrimRight(string(raw), "\r\n")
		if lines++; text == "" || lines > maxLines {
			break
		}
		if text[0] == ' ' {
			if len(line) < maxFile/16 {
				line += text[1:]
			}
			continue
		}
		take(line)
		line = text
	}
	take(line)
	for _, v := range []string{bundled, specified} {
		if m.version == "" {
			m.version = v
		}
	}
	return m
}

// group is the group that the manifest states: as the vendor's id, or as the
// bundle's name, which maven-bundle-plugin makes of group and artifact without
// repeating what both have (org.apache.commons:commons-lang3 is
// org.apache.commons.lang3).
func (m manifest) group(artifact string) string {
	if strings.Contains(m.vendor, ".") && !strings.ContainsAny(m.vendor, " /:") {
		return m.vendor
	}
	for i := len(m.symbolic) - 1; i > 0; i-- {
		if m.symbolic[i] != '.' {
			continue
		}
		group, rest := m.symbolic[:i], m.symbolic[i+1:]
		if !strings.Contains(group, ".") {
			continue
		}
		last := group[strings.LastIndexByte(group, '.')+1:]
		if artifact == rest || artifact == last+"-"+rest {
			return group
		}
	}
	return ""
}
