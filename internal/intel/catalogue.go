package intel

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Judgeable is what a judgement of a package rests on, and nothing else of it:
// thousands of images have the same ones. It can be a map's key and be stored.
type Judgeable struct {
	vuln.Subject
	// Owner is the distribution's package that installed it, if one did.
	Owner Owner
}

// Owner is a distribution's package, by the names that advisories use; the
// zero Owner is none.
type Owner struct{ Ecosystem, Name, Source string }

// ownerOf reduces an owner; home is the ecosystem of the image's distribution.
func ownerOf(home string, p *event.Package) Owner {
	if p == nil || home == "" {
		return Owner{}
	}
	s := vuln.SubjectOf(p, home)
	return Owner{home, s.Name, s.Source}
}

// owners are the packages that own others, by purl.
func owners(packages []event.Package) map[string]*event.Package {
	var out map[string]*event.Package
	for i := range packages {
		if p := packages[i].Owner; p != "" && out == nil {
			out = map[string]*event.Package{}
		}
	}
	if out == nil {
		return nil
	}
	for i := range packages {
		if p := &packages[i]; p.Owner == "" {
			out[p.PURL] = p
		}
	}
	return out
}

// rules says whether a distribution's advisories are the ones to ask about what
// its package installed: when they speak of that package at all. A package that
// somebody else built for the distribution they do not know.
func (m *matching) rules(o Owner) bool {
	return o.Name != "" && m.scope(o.Ecosystem).known &&
		m.bundle.mayKnow(vuln.Subject{Ecosystem: o.Ecosystem, Name: o.Name, Source: o.Source})
}

// JudgeableOf reduces a package of an image of the distribution; owner may be
// nil.
func JudgeableOf(distro report.Distro, p, owner *event.Package) Judgeable {
	home := vuln.Distribution(distro.ID, distro.Version, distro.Codename)
	return Judgeable{Subject: vuln.SubjectOf(p, ecosystemOf(p.Ecosystem, home)), Owner: ownerOf(home, owner)}
}

// Catalogue numbers the distinct packages of many inventories, so that all of
// them are judged at once: each distinct package is asked for once, and each
// inventory is then a list of numbers. It is not safe for concurrent use.
type Catalogue struct {
	numbers map[Judgeable]uint32
	list    []Judgeable
}

// Add gives the numbers of an inventory's packages, sorted, each once.
func (c *Catalogue) Add(distro report.Distro, packages []event.Package) []uint32 {
	if c.numbers == nil {
		c.numbers = map[Judgeable]uint32{}
	}
	out := make([]uint32, 0, len(packages))
	owners := owners(packages)
	for i := range packages {
		out = append(out, c.Number(JudgeableOf(distro, &packages[i], owners[packages[i].Owner])))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Number of one package, which is a new one when the catalogue does not have it.
func (c *Catalogue) Number(j Judgeable) uint32 {
	if c.numbers == nil {
		c.numbers = map[Judgeable]uint32{}
	}
	n, ok := c.numbers[j]
	if !ok {
		n = uint32(len(c.list))
		c.numbers[j], c.list = n, append(c.list, j)
	}
	return n
}

// Append numbers one more package, in the order in which a store kept them.
func (c *Catalogue) Append(j Judgeable) {
	if c.numbers == nil {
		c.numbers = map[Judgeable]uint32{}
	}
	c.numbers[j], c.list = uint32(len(c.list)), append(c.list, j)
}

// Close says that no more packages come: what numbering them took is given back.
func (c *Catalogue) Close() { c.numbers = nil }

// List is the packages by their numbers. It is not to be changed.
func (c *Catalogue) List() []Judgeable { return c.list }

// Prints tells for every package of a catalogue what its findings are, as a
// number that changes when they do; 0 for those without findings.
type Prints []uint64

// Prints judges the catalogue. likelihood says that a changed EPSS score counts
// as a change too: publishers change them all every day, so that is only for
// policies that read them.
func (b *Bundle) Prints(ctx context.Context, c *Catalogue, likelihood bool) (Prints, error) {
	j, err := b.JudgeAll(ctx, c, likelihood, nil)
	if err != nil {
		return nil, err
	}
	return j.Prints, nil
}

// digestOf is a hash of findings that is the same in every process.
func digestOf(findings []event.Finding, likelihood bool) (uint64, error) {
	if len(findings) == 0 {
		return 0, nil
	}
	sum := fnv(0xcbf29ce484222325)
	for _, f := range findings {
		f.Ratings, f.Title, f.URL = nil, "", "" // nothing rests on them
		if !likelihood {
			f.EPSS, f.Percentile = 0, 0
		}
		data, err := json.Marshal(f)
		if err != nil {
			return 0, err
		}
		sum.add(data)
	}
	return uint64(sum) | 1, nil
}

// Of is the number of a whole inventory: it changes when a finding of one of
// its packages does, when one comes or goes.
func (p Prints) Of(numbers []uint32) uint64 {
	sum := fnv(0xcbf29ce484222325)
	var word [12]byte
	for _, n := range numbers {
		if int(n) < len(p) && p[n] != 0 {
			binary.LittleEndian.PutUint32(word[:], n)
			binary.LittleEndian.PutUint64(word[4:], p[n])
			sum.add(word[:])
		}
	}
	return uint64(sum)
}

// fnv is FNV-1a of 64 bits. It protects from nothing: whoever can choose
// findings signs the bundle.
type fnv uint64

func (h *fnv) add(data []byte) {
	for _, c := range data {
		*h = (*h ^ fnv(c)) * 0x100000001b3
	}
}
