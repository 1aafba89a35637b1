package inteltest

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// shape is how an ecosystem's advisories spread over names, as counted in OSV's
// export and the Debian tracker of 2026: most names have one, a few (linux,
// chromium) thousands; most of npm's records name one malicious package each.
type shape struct {
	ecosystem string
	share     int     // of a hundred advisories
	names     float64 // names per advisory
	skew      float64 // Zipf exponent over the names
	whole     float64 // share of records that mean every version
	unfixed   float64 // share of the rest that have no fix
}

func shapes() []shape {
	return []shape{
		{"npm", 46, 0.92, 1.05, 0.9, 0.05}, {"Debian", 20, 0.12, 1.25, 0, 0.08}, {"PyPI", 8, 0.6, 1.2, 0.5, 0.1},
		{"Maven", 5, 0.4, 1.3, 0, 0.15}, {"Go", 4, 0.35, 1.3, 0, 0.1}, {"Packagist", 4, 0.4, 1.3, 0, 0.1}, {"AlmaLinux", 6, 0.2, 1.2, 0, 0},
		{"crates.io", 2, 0.6, 1.2, 0, 0.2}, {"RubyGems", 2, 0.5, 1.2, 0, 0.1}, {"NuGet", 2, 0.5, 1.2, 0, 0.1}, {"Bitnami", 1, 0.1, 1.2, 0, 0.05},
	}
}

// Large writes a mirror of generated advisories, about so many in all, into
// dir: the same ones each time. Its sentences and ids mean nothing.
func Large(dir string, advisories int) error {
	random := rand.New(rand.NewPCG(1, 2))
	var ecosystems []string
	for _, s := range shapes() {
		n := advisories * s.share / 100
		if s.ecosystem == "Debian" {
			if err := largeTracker(dir, s, n, random); err != nil {
				return err
			}
			continue
		}
		ecosystems = append(ecosystems, s.ecosystem)
		if err := largeExport(dir, s, n, random); err != nil {
			return err
		}
	}
	text := strings.Join(ecosystems, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "osv", "ecosystems.txt"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "kev"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "kev", "known_exploited_vulnerabilities.json"), []byte(`{"vulnerabilities":[{"cveID":"CVE-2024-10001","dateAdded":"2024-01-01"}]}`), 0o644)
}

// Name is the n-th name of an ecosystem that Large writes, the most affected
// first; malicious packages have other names.
func Name(ecosystem string, n int) string {
	switch ecosystem {
	case "Go":
		return fmt.Sprintf("github.com/owner-%d/module-%d", n%977, n)
	case "Maven":
		return fmt.Sprintf("org.group%d:artifact-%d", n%311, n)
	}
	return fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(ecosystem, ".", "")), n)
}

func (s shape) draw(n int, random *rand.Rand) func() (name string, popular bool) {
	zipf := rand.NewZipf(random, s.skew, 8, uint64(float64(n)*s.names)+1)
	return func() (string, bool) {
		i := int(zipf.Uint64())
		return Name(s.ecosystem, i), i < wellKept
	}
}

// wellKept is how many of an ecosystem's names mend what is found in them: those
// with the most advisories.
const wellKept = 200

func largeExport(dir string, s shape, n int, random *rand.Rand) (err error) {
	dir = filepath.Join(dir, "osv", s.ecosystem)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "all.zip"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	archive, name := zip.NewWriter(file), s.draw(n, random)
	for i := range n {
		record := s.record(i, name, random)
		entry, err := archive.Create(record["id"].(string) + ".json")
		if err != nil {
			return err
		}
		if err := json.NewEncoder(entry).Encode(record); err != nil {
			return err
		}
	}
	return archive.Close()
}

type object = map[string]any

func (s shape) record(i int, draw func() (string, bool), random *rand.Rand) object {
	id, ecosystem := fmt.Sprintf("GHSA-%s-%06d", s.ecosystem[:2], i), s.ecosystem
	events := []object{{"introduced": "0"}}
	kind := "ECOSYSTEM"
	name, popular := draw()
	switch {
	case s.ecosystem == "AlmaLinux":
		id, ecosystem = fmt.Sprintf("ALSA-2026:%d", i), fmt.Sprintf("AlmaLinux:%d", 8+i%3)
		events = append(events, object{"fixed": fmt.Sprintf("%d.%d.%d-%d.el9", random.IntN(9), random.IntN(40), random.IntN(20), random.IntN(99))})
	case random.Float64() < s.whole: // malicious packages: nobody else has their names
		id = fmt.Sprintf("MAL-2025-%d", i)
		name = Name(s.ecosystem, i) + "-malicious"
	case popular || random.Float64() > s.unfixed:
		if random.IntN(4) == 0 {
			events[0]["introduced"] = fmt.Sprintf("%d.0.0", random.IntN(4))
		}
		events = append(events, object{"fixed": fmt.Sprintf("%d.%d.%d", 4+random.IntN(9), random.IntN(40), random.IntN(20))})
	}
	affected := []object{}
	for _, suffix := range []string{"", "-core"}[:1+random.IntN(2)] {
		affected = append(affected, object{"package": object{"ecosystem": ecosystem, "name": name + suffix}, "ranges": []object{{"type": kind, "events": events}}})
	}
	cve := fmt.Sprintf("CVE-%d-%d", 2015+i%12, 10000+i)
	return object{"id": id, "aliases": []string{cve}, "related": []string{cve}, "modified": "2026-11-20T00:00:00Z", "published": "2024-01-01T00:00:00Z",
		"summary":  fmt.Sprintf("A flaw of kind %d in part %d lets attackers do thing %d", i%89, i%131, i%53),
		"severity": []object{{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}, "affected": affected}
}

// largeTracker writes what Debian says: each vulnerability of a source package
// in three releases.
func largeTracker(dir string, s shape, n int, random *rand.Rand) (err error) {
	dir = filepath.Join(dir, "debian")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name, packages := s.draw(n, random), map[string]object{}
	for i := range n {
		releases := object{}
		pkg, popular := name()
		for _, release := range []string{"bullseye", "bookworm", "trixie"} {
			r := object{"status": "resolved", "fixed_version": fmt.Sprintf("%d.%d.%d-%d+deb12u%d", random.IntN(9), random.IntN(40), random.IntN(20), 1+random.IntN(5), 1+random.IntN(9)), "urgency": "not yet assigned"}
			if !popular && random.Float64() < s.unfixed {
				r = object{"status": "open", "urgency": "unimportant", "nodsa": "Minor issue", "nodsa_reason": ""}
			}
			releases[release] = r
		}
		if packages[pkg] == nil {
			packages[pkg] = object{}
		}
		packages[pkg][fmt.Sprintf("CVE-%d-%d", 2010+i%17, 20000+i)] = object{"description": fmt.Sprintf("A flaw of kind %d in part %d", i%89, i%131), "releases": releases}
	}
	file, err := os.Create(filepath.Join(dir, "tracker.json"))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	return errors.Join(json.NewEncoder(out).Encode(packages), out.Flush(), file.Close())
}
