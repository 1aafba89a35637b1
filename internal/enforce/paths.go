package enforce

import (
	"cmp"
	"fmt"
	"path"
	"slices"
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
	return flattenPaths([]pathList{{x.Deny, bpf.VerdictDeny}, {x.Allow, bpf.VerdictAllow}}, nil, func(first, _ uint8) uint8 { return first })
}

// compileFiles flattens the lists of files, those of policies in audit mode that
// stand beside enforcing ones too: what holds for a file is all of them together.
func compileFiles(run policy.Run) ([]pathEntry, []policy.PathRule, error) {
	lists := []pathList{{run.Files.Deny, bpf.FileDenied}, {run.Files.ReadOnly, bpf.FileReadOnly}}
	if a := run.Audited; a != nil {
		lists = append(lists, pathList{a.Files.Deny, bpf.FileDeniedAudited}, pathList{a.Files.ReadOnly, bpf.FileReadOnlyAudited})
	}
	return flattenPaths(lists, above(slices.Concat(run.Files.Deny, run.Files.ReadOnly)), func(first, more uint8) uint8 { return first | more })
}

// above are the folders that what rules speak of lies in, up to the root, each with the
// number of the first such rule: with another name of theirs it would pass by the rule.
// A pattern that is wrong has none.
func above(rules []policy.PathRule) map[string]uint16 {
	folders := map[string]uint16{}
	for i, r := range rules {
		p, err := parsePattern(r.Pattern)
		if err != nil || i >= 1<<16-2 {
			continue
		}
		folder := path.Dir(p.path) // of a folder with its slash itself
		for ; folder != "/"; folder = path.Dir(folder) {
			if folders[folder] == 0 {
				folders[folder] = uint16(i + 1)
			}
		}
	}
	return folders
}

// pathList is what is said about the files that patterns match.
type pathList struct {
	rules   []policy.PathRule
	verdict uint8
}

// flattenPaths makes one verdict, of the lists in their order, for every pattern's files.
// A verdict goes by the number of the first rule. Folders that hold what rules speak of
// say so besides.
func flattenPaths(lists []pathList, holds map[string]uint16, join func(first, more uint8) uint8) ([]pathEntry, []policy.PathRule, error) {
	var names []policy.PathRule
	var verdicts []uint8
	for _, l := range lists {
		names = append(names, l.rules...)
		verdicts = append(verdicts, slices.Repeat([]uint8{l.verdict}, len(l.rules))...)
	}
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
	for folder := range holds {
		targets[folder] = false // the entry in the folder that it lies in
	}
	verdict := func(target string, folder, deep bool) (verdict uint8, rule uint16) {
		for i, p := range patterns {
			switch {
			case !p.covers(target, folder, deep):
			case rule == 0:
				verdict, rule = verdicts[i], uint16(i+1)
			default:
				verdict = join(verdict, verdicts[i])
			}
		}
		return verdict, rule
	}
	var entries []pathEntry
	for target, folder := range targets {
		e := pathEntry{path: target}
		e.rule.One, e.rule.OneRule = verdict(target, folder, false)
		if folder {
			e.rule.Len = uint16(len(target))
			e.rule.Deep, e.rule.DeepRule = verdict(target, true, true)
		} else if rule := holds[target]; rule != 0 {
			e.rule.One |= bpf.FileHolds
			e.rule.OneRule = cmp.Or(e.rule.OneRule, rule)
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
