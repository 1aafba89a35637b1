package enforce

import (
	"fmt"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// maxPath is the longest path that the kernel compares; its key ends in a NUL.
const maxPath = len(bpf.PathKey{}.Path) - 1

// pathEntry is one entry of the kernel's trie: a file, or a folder that ends
// in a slash.
type pathEntry struct {
	path string
	rule bpf.PathRule
}

// pattern is a parsed path pattern.
type pattern struct {
	path string // a file, or a folder with its slash
	one  bool   // the folder's own files
	deep bool   // and everything below
}

func parsePattern(s string) (pattern, error) {
	base, one := strings.CutSuffix(s, "/*")
	deep := false
	if !one {
		base, deep = strings.CutSuffix(s, "/**")
	}
	p := pattern{path: base, one: one || deep, deep: deep}
	if p.one {
		p.path += "/"
	}
	switch {
	case !strings.HasPrefix(s, "/"):
		return p, fmt.Errorf("path pattern %q: not absolute", s)
	case strings.ContainsAny(base, "*?[\x00"):
		return p, fmt.Errorf("path pattern %q: the kernel can compare whole paths, and patterns that end in /* or /**", s)
	case base != "" && path.Clean(base) != base || !p.one && base == "/":
		return p, fmt.Errorf("path pattern %q: write it without //, . and .., and without a slash at the end", s)
	case len(p.path) > maxPath:
		return p, fmt.Errorf("path pattern %q: longer than %d bytes", s, maxPath)
	}
	return p, nil
}

// covers tells whether all of target's files are in p: target is a file, or
// the direct (deep: the deeper) content of a folder.
func (p pattern) covers(target string, folder, deep bool) bool {
	if !p.one {
		return !folder && p.path == target
	}
	if p.deep && strings.HasPrefix(target, p.path) {
		return true
	}
	if folder {
		return !deep && target == p.path
	}
	return target[:strings.LastIndexByte(target, '/')+1] == p.path
}

// compilePaths flattens allow and deny lists so that the longest match in the
// trie is the whole verdict: a deny beats an allow.
func compilePaths(x policy.Exec) ([]pathEntry, []policy.PathRule, error) {
	names := append(append([]policy.PathRule{}, x.Deny...), x.Allow...)
	if len(names) > 1<<16-2 {
		return nil, nil, fmt.Errorf("%d path rules: at most %d", len(names), 1<<16-2)
	}
	patterns := make([]pattern, len(names))
	targets := map[string]bool{} // path → folder
	for i, n := range names {
		p, err := parsePattern(n.Pattern)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", n.Source, err)
		}
		patterns[i] = p
		targets[p.path] = p.one
	}
	verdict := func(target string, folder, deep bool) (uint8, uint16) {
		for i, p := range patterns { // denials come first
			if !p.covers(target, folder, deep) {
				continue
			}
			if i < len(x.Deny) {
				return bpf.VerdictDeny, uint16(i + 1)
			}
			return bpf.VerdictAllow, uint16(i + 1)
		}
		return bpf.VerdictNone, 0
	}
	var entries []pathEntry
	for target, folder := range targets {
		e := pathEntry{path: target}
		e.rule.One, e.rule.OneRule = verdict(target, folder, false)
		if folder {
			e.rule.Len = uint16(len(target))
			e.rule.Deep, e.rule.DeepRule = verdict(target, true, true)
		}
		entries = append(entries, e)
	}
	return sortUnique(entries, func(a, b pathEntry) int { return strings.Compare(a.path, b.path) }), names, nil
}

// key is the entry's place in the trie: a file with its NUL, a folder without.
func (e pathEntry) key(slot uint32) bpf.PathKey {
	k := bpf.PathKey{Slot: slot}
	n := copy(k.Path[:], e.path)
	if e.rule.Len == 0 {
		n++
	}
	k.Prefixlen = uint32(4+n) * 8
	return k
}
