package intel

import (
	"encoding/json"

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

// JudgeableOf reduces a package of an image of the distribution.
func JudgeableOf(distro report.Distro, p *event.Package, owner Owner) Judgeable {
	home := vuln.Distribution(distro.ID, distro.Version, distro.Codename)
	return Judgeable{Subject: vuln.SubjectOf(p, ecosystemOf(p.Ecosystem, home)), Owner: owner}
}

// OwnerOf reduces a package of the distribution itself, that may own others.
func OwnerOf(distro report.Distro, p *event.Package) Owner {
	return ownerOf(vuln.Distribution(distro.ID, distro.Version, distro.Codename), p)
}

// digestOf is a hash of findings that is the same in every process, and those of
// each one.
func digestOf(findings []event.Finding, likelihood bool) (all uint64, each []uint64, err error) {
	if len(findings) == 0 {
		return 0, nil, nil
	}
	sum := fnv(fnvBasis)
	each = make([]uint64, len(findings))
	for i, f := range findings {
		f.Ratings, f.Title, f.URL = nil, "", "" // nothing rests on them
		if !likelihood {
			f.EPSS, f.Percentile = 0, 0
		}
		data, err := json.Marshal(f)
		if err != nil {
			return 0, nil, err
		}
		sum.add(data)
		one := fnv(fnvBasis)
		one.add(data)
		each[i] = uint64(one)
	}
	return uint64(sum) | 1, each, nil
}

const fnvBasis = 0xcbf29ce484222325

// fnv is FNV-1a of 64 bits. It protects from nothing: whoever can choose
// findings signs the bundle.
type fnv uint64

func (h *fnv) add(data []byte) {
	for _, c := range data {
		*h = (*h ^ fnv(c)) * 0x100000001b3
	}
}
