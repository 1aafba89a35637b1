package secret

import (
	"encoding/binary"
	"slices"
	"strings"
)

// keywordFinder finds many short words in one pass over a text. It looks at
// three characters, case aside, at every second place: each word has two
// neighbouring groups of three, one of which lies at an even place. Only where
// such a group may belong to a word, words are compared.
type keywordFinder struct {
	maybe [1 << groupBits / 64]uint64 // one bit per hash of a group
	first [1 << groupBits]uint16      // index of the hash's first entry, plus 1
	entry []keywordEntry
	words []keyword
}

const groupBits = 16

type keyword struct {
	text  string
	exact bool // has capitals: met as it is
	rules []int
}

// keywordEntry says that a word has a group of that hash at offset 0 or 1.
type keywordEntry struct {
	word   uint16
	offset uint8
	next   uint16 // index plus 1
}

func newKeywordFinder(rules []*Rule) *keywordFinder {
	f := &keywordFinder{}
	index := map[string]int{}
	for i, r := range rules {
		for _, text := range lengthened(r.Keywords) {
			n, known := index[text]
			if !known {
				n = len(f.words)
				index[text] = n
				f.words = append(f.words, keyword{text: text, exact: strings.ToLower(text) != text})
				f.add(n, text, 0)
				f.add(n, text, 1)
			}
			if !slices.Contains(f.words[n].rules, i) {
				f.words[n].rules = append(f.words[n].rules, i)
			}
		}
	}
	return f
}

// lengthened gives words of three characters every fourth one: find needs four.
func lengthened(words []string) []string {
	var all []string
	for _, w := range words {
		if len(w) > 3 {
			all = append(all, w)
			continue
		}
		for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789_-" {
			all = append(all, w+string(c))
			if c >= 'a' && c <= 'z' && strings.ToLower(w) != w {
				all = append(all, w+string(c-0x20))
			}
		}
	}
	return all
}

func (f *keywordFinder) add(word int, text string, offset uint8) {
	h := groupHash(uint32(text[offset]) | uint32(text[offset+1])<<8 | uint32(text[offset+2])<<16)
	f.maybe[h/64] |= 1 << (h % 64)
	f.entry = append(f.entry, keywordEntry{uint16(word), offset, f.first[h]})
	f.first[h] = uint16(len(f.entry))
}

// groupHash hashes the three low bytes of v, small and capital letters alike.
func groupHash(v uint32) uint32 {
	return (v<<8 | 0x20202000) * 0x9E3779B1 >> (32 - groupBits)
}

// find calls met for every keyword in text, until it returns false.
func (f *keywordFinder) find(text []byte, met func(word *keyword, at int) bool) {
	i := 0
	for ; i+4 <= len(text); i += 2 {
		h := groupHash(binary.LittleEndian.Uint32(text[i:]))
		if f.maybe[h/64]>>(h%64)&1 != 0 && !f.compare(text, i, h, met) {
			return
		}
	}
	if i+3 <= len(text) {
		f.compare(text, i, groupHash(uint32(text[i])|uint32(text[i+1])<<8|uint32(text[i+2])<<16), met)
	}
}

func (f *keywordFinder) compare(text []byte, i int, h uint32, met func(*keyword, int) bool) bool {
	for n := f.first[h]; n != 0; {
		e := &f.entry[n-1]
		w := &f.words[e.word]
		at := i - int(e.offset)
		if at >= 0 && at+len(w.text) <= len(text) && w.is(text[at:at+len(w.text)]) && !met(w, at) {
			return false
		}
		n = e.next
	}
	return true
}

func (w *keyword) is(text []byte) bool {
	if w.exact {
		return string(text) == w.text
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != w.text[i] {
			return false
		}
	}
	return true
}
