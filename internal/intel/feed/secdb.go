package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// ParseSecDB reads a security database in Alpine's form
// (https://secdb.alpinelinux.org, also Wolfi's and Chainguard's security.json):
// per source package the versions in which vulnerabilities were fixed. "0" means
// that the package never was affected; such pairs are left out. It knows of no
// vulnerability that is not fixed.
func ParseSecDB(r io.Reader, ecosystem, source string, each func(vuln.Advisory) error, skip func(name string, err error)) error {
	plain, err := Unpack(r, 1<<30)
	if err != nil {
		return fmt.Errorf("secdb: %w", err)
	}
	defer func() { _ = plain.Close() }() // only read
	dec := decode(plain)
	if err := dec.enterList("packages"); err != nil {
		return fmt.Errorf("secdb: %w", err)
	}
	for n := 0; dec.More(); n++ {
		var item struct {
			Package struct {
				Name  string                     `json:"name"`
				Fixes map[string]json.RawMessage `json:"secfixes"`
			} `json:"pkg"`
		}
		err := dec.next(&item)
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			skip(fmt.Sprintf("packages[%d]", n), err)
			continue
		}
		if err != nil {
			return fmt.Errorf("secdb: %w", err)
		}
		name := item.Package.Name
		if name == "" || len(name) > maxID || !printable(name) || len(item.Package.Fixes) > maxAffected {
			skip(fmt.Sprintf("packages[%d]", n), errors.New("the package is not usable"))
			continue
		}
		for _, a := range fixesOf(name, ecosystem, source, item.Package.Fixes, skip) {
			if err := each(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// fixesOf turns version → ids into one advisory per id.
func fixesOf(name, ecosystem, source string, fixes map[string]json.RawMessage, skip func(string, error)) []vuln.Advisory {
	byID := map[string][]string{}
	aliases := map[string][]string{}
	for _, version := range slices.Sorted(maps.Keys(fixes)) {
		var ids []string
		if err := json.Unmarshal(fixes[version], &ids); err != nil {
			skip(clip(name+"/"+version, maxID), errors.New("not a list of ids"))
			continue
		}
		fixed := strings.TrimSpace(version)
		for _, entry := range ids {
			words := vulnerabilityIDs(entry)
			if len(words) == 0 || fixed == "0" {
				continue
			}
			byID[words[0]] = append(byID[words[0]], fixed)
			aliases[words[0]] = append(aliases[words[0]], words[1:]...)
		}
	}
	var out []vuln.Advisory
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		a := vuln.Advisory{ID: id, Source: source, URL: addressOf(id), Aliases: slices.Compact(slices.Sorted(slices.Values(aliases[id])))}
		x := vuln.Affected{Ecosystem: ecosystem, Name: name}
		for _, fixed := range byID[id] { // fixed again after a regression: two ranges
			x.Ranges = append(x.Ranges, vuln.Range{Events: []vuln.Point{{Introduced: "0"}, {Fixed: fixed}}})
		}
		a.Affected = []vuln.Affected{x}
		out = append(out, a)
	}
	return out
}

// vulnerabilityIDs finds the ids in an entry, which may carry several names of
// one vulnerability and remarks: "CVE-2020-1 (+ regression)".
func vulnerabilityIDs(entry string) []string {
	var ids []string
	for _, word := range strings.Fields(clip(entry, 500)) {
		for _, prefix := range []string{"CVE-", "GHSA-", "XSA-", "ZBX-", "GNUTLS-SA-", "TS-", "RUSTSEC-", "GO-"} {
			if strings.HasPrefix(word, prefix) && len(word) <= maxID && printable(word) {
				ids = append(ids, word)
			}
		}
	}
	return ids
}

func addressOf(id string) string {
	switch {
	case isCVE(id):
		return "https://nvd.nist.gov/vuln/detail/" + id
	case strings.HasPrefix(id, "GHSA-"):
		return "https://github.com/advisories/" + id
	}
	return ""
}
