package inventory

import (
	"bytes"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// A Claimer is a Driver of a distribution's package manager, whose database
// also says which files each package installed. What other drivers find in
// such a file belongs to that package.
type Claimer interface {
	Placer
	// ExtractClaims is Extract, and calls claim with the package's name and the
	// path, with or without a leading slash, of every file that the evidence
	// names. The path is only valid during the call.
	ExtractClaims(f File, claim func(owner string, path []byte)) ([]event.Package, error)
}

// maxClaims bounds the files of packages in one layer, 16 bytes each; a full
// desktop has 400,000.
const maxClaims = 2_000_000

// claims are the files that packages of one layer installed, until the layer is
// settled.
type claims struct {
	files  []claimed
	owners []string
	cut    bool
}

type claimed struct {
	path  uint64
	owner uint32
}

// claim is called in runs of one owner.
func (l *Layer) claim(owner string, path []byte) {
	c := &l.claims
	if len(c.files) == maxClaims {
		c.cut = true
		return
	}
	if n := len(c.owners); n == 0 || c.owners[n-1] != owner {
		c.owners = append(c.owners, owner)
	}
	c.files = append(c.files, claimed{l.engine.key.sum(string(unmerged(path))), uint32(len(c.owners) - 1)})
}

// unmerged is the path as distributions wrote it before bin, sbin and lib moved
// into usr: databases hold both spellings for one file.
func unmerged(path []byte) []byte {
	path = bytes.TrimPrefix(bytes.TrimPrefix(path, []byte("./")), []byte("/"))
	rest, ok := bytes.CutPrefix(path, []byte("usr/"))
	if !ok {
		return path
	}
	for _, dir := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if bytes.HasPrefix(rest, []byte(dir)) {
			return rest
		}
	}
	return path
}

// settle finds the owners of the layer's evidence and lets the claims go. A
// package manager writes its database and the files in one step, so owners are
// looked for in the same layer only; a file that a later step replaced is that
// step's own.
func (l *Layer) settle() {
	if len(l.claims.files) == 0 {
		return
	}
	if l.claims.cut {
		l.gap("more than %d files belong to packages; the owners of the rest were not looked for", maxClaims)
	}
	files := l.claims.files
	slices.SortStableFunc(files, func(a, b claimed) int {
		if a.path < b.path {
			return -1
		}
		if a.path > b.path {
			return 1
		}
		return 0
	})
	for path, ev := range l.found {
		if _, own := ev.driver.(Claimer); own || ev.driver == nil {
			continue
		}
		h := l.engine.key.sum(string(unmerged([]byte(path))))
		i, ok := slices.BinarySearchFunc(files, h, func(c claimed, h uint64) int {
			switch {
			case c.path < h:
				return -1
			case c.path > h:
				return 1
			}
			return 0
		})
		if ok {
			ev.owner = l.claims.owners[files[i].owner]
		}
	}
	l.claims = claims{}
}

// own gives packages the purl of the distribution's package that installed
// their evidence, if the image still has it.
func own(packages []event.Package, owners map[int]string, claimers map[int]bool) {
	purls := map[string]string{}
	for i := range packages {
		if claimers[i] {
			purls[packages[i].Name] = packages[i].PURL
		}
	}
	for i, owner := range owners {
		packages[i].Owner = purls[owner]
	}
}

// Ecosystem is the one name of the distribution's release, under which
// advisories are found; for a distribution that nobody here knows its own id
// and version, and fallback where an image does not say what it is.
func (d Distro) Ecosystem(fallback string) string {
	if name := vuln.Distribution(d.ID, d.Version, d.Codename); name != "" {
		return name
	}
	switch {
	case d.ID == "":
		return fallback
	case d.Version == "":
		return d.ID
	}
	return d.ID + ":" + d.Version
}
