// Command peers compares what scanners say of the same images: the packages and
// findings that one names and another does not.
//
//	TRUTH_IMAGES=FOLDER go test -count=1 ./internal/scan/truth
//	go run ./bench/peers -breakwater BINARY [-data FOLDER] [-trivy-cache FOLDER] FOLDER/*.tar
//
// Those of breakwater, syft, grype and trivy take part that are on the PATH.
// Breakwater judges by the bundle in -data, grype by the database in
// GRYPE_DB_CACHE_DIR, trivy by the one in -trivy-cache; nothing is fetched.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	binary := flag.String("breakwater", "", "the binary to compare")
	data := flag.String("data", "", "its data folder, with an intelligence bundle")
	cache := flag.String("trivy-cache", "", "trivy's cache folder, with db/trivy.db")
	flag.Parse()
	if err := compare(scanners(*binary, *data, *cache), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/peers:", err)
		os.Exit(1)
	}
}

// scanner is one program, and how its answer is read.
type scanner struct {
	name string
	args func(image string) []string
	read func(out []byte) (said, error)
}

// said is what a scanner says of an image, each thing once.
type said struct{ packages, findings map[string]bool }

func scanners(binary, data, cache string) (list []scanner) {
	if binary != "" {
		args := []string{binary, "scan", "--no-cache", "--format", "json"}
		if data != "" {
			args = append(args, "--data", data)
		}
		list = append(list, scanner{"breakwater", func(image string) []string { return append(slices.Clone(args), "docker-archive:"+image) }, readBreakwater})
	}
	for _, s := range []scanner{
		{"syft", func(image string) []string {
			return []string{"syft", "scan", "docker-archive:" + image, "-q", "-o", "json"}
		}, readSyft},
		{"grype", func(image string) []string { return []string{"grype", "docker-archive:" + image, "-q", "-o", "json"} }, readGrype},
		{"trivy", func(image string) []string {
			args := []string{"trivy", "image", "--input", image, "-q", "--format", "json", "--list-all-pkgs", "--scanners", "vuln", "--offline-scan", "--skip-version-check",
				"--skip-db-update", "--skip-java-db-update", "--cache-backend", "memory"}
			if cache != "" {
				args = append(args, "--cache-dir", cache)
			}
			return args
		}, readTrivy},
	} {
		if _, err := exec.LookPath(s.name); err == nil {
			list = append(list, s)
		}
	}
	return list
}

func compare(list []scanner, images []string) error {
	if len(list) < 2 || len(images) == 0 {
		return errors.New("name the binary with -breakwater, put another scanner on the PATH, and name the images' archives")
	}
	for _, image := range images {
		all := make([]said, len(list))
		for i, s := range list {
			args := s.args(image)
			cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s on %s: %w", s.name, image, err)
			}
			if all[i], err = s.read(out); err != nil {
				return fmt.Errorf("%s on %s: %w", s.name, image, err)
			}
		}
		fmt.Printf("== %s\n", filepath.Base(image))
		table("packages", list, all, func(s said) map[string]bool { return s.packages })
		table("findings", list, all, func(s said) map[string]bool { return s.findings })
	}
	return nil
}

// table prints how many things each scanner names, and those not all of them do.
func table(what string, list []scanner, all []said, of func(said) map[string]bool) {
	everything := map[string]bool{}
	head := "   " + what + ":"
	for i, s := range list {
		if of(all[i]) == nil {
			continue
		}
		maps.Copy(everything, of(all[i]))
		head += fmt.Sprintf(" %s %d", s.name, len(of(all[i])))
	}
	fmt.Println(head)
	for _, thing := range slices.Sorted(maps.Keys(everything)) {
		var by, not []string
		for i, s := range list {
			switch m := of(all[i]); {
			case m == nil:
			case m[thing]:
				by = append(by, s.name)
			default:
				not = append(not, s.name)
			}
		}
		if len(not) > 0 {
			fmt.Printf("      %s: by %s, not by %s\n", thing, strings.Join(by, ", "), strings.Join(not, ", "))
		}
	}
}

// base is a package URL without its qualifiers and in one spelling. Trivy calls
// AlmaLinux alma where the others go by its os-release, puts the epoch of a
// Debian package into a qualifier, where the type's definition has it in the
// version, and writes the standard library's version with a v.
func base(purl string) string {
	purl, qualifiers, _ := strings.Cut(purl, "?")
	purl, _, _ = strings.Cut(purl, "#")
	purl = strings.NewReplacer("%3A", ":", "%2B", "+", "%7E", "~", "pkg:rpm/alma/", "pkg:rpm/almalinux/", "golang/stdlib@v", "golang/stdlib@").Replace(purl)
	name, version, _ := strings.Cut(purl, "@")
	for q := range strings.SplitSeq(qualifiers, "&") {
		if epoch, ok := strings.CutPrefix(q, "epoch="); ok && strings.HasPrefix(name, "pkg:deb/") {
			return name + "@" + epoch + ":" + version
		}
	}
	return purl
}

// known is the name under which a vulnerability is compared: its CVE, if it has one.
func known(id string, others ...string) string {
	for _, name := range append([]string{id}, others...) {
		if strings.HasPrefix(name, "CVE-") {
			return name
		}
	}
	return id
}

func readBreakwater(out []byte) (said, error) {
	var r struct {
		Packages []struct {
			PURL string `json:"purl"`
		} `json:"packages"`
		Findings []struct {
			ID      string   `json:"id"`
			Aliases []string `json:"aliases"`
			Package struct {
				PURL string `json:"purl"`
			} `json:"package"`
		} `json:"findings"`
	}
	err := json.Unmarshal(out, &r)
	s := said{map[string]bool{}, map[string]bool{}}
	for _, p := range r.Packages {
		s.packages[base(p.PURL)] = true
	}
	for _, f := range r.Findings {
		s.findings[known(f.ID, f.Aliases...)+" "+base(f.Package.PURL)] = true
	}
	return s, err
}

func readSyft(out []byte) (said, error) {
	var r struct {
		Artifacts []struct {
			PURL string `json:"purl"`
		} `json:"artifacts"`
	}
	err := json.Unmarshal(out, &r)
	s := said{packages: map[string]bool{}}
	for _, p := range r.Artifacts {
		s.packages[base(p.PURL)] = true
	}
	return s, err
}

func readGrype(out []byte) (said, error) {
	type name struct {
		ID string `json:"id"`
	}
	var r struct {
		Matches []struct {
			Vulnerability name   `json:"vulnerability"`
			Related       []name `json:"relatedVulnerabilities"`
			Artifact      struct {
				PURL string `json:"purl"`
			} `json:"artifact"`
		} `json:"matches"`
	}
	err := json.Unmarshal(out, &r)
	s := said{findings: map[string]bool{}}
	for _, m := range r.Matches {
		var related []string
		for _, n := range m.Related {
			related = append(related, n.ID)
		}
		s.findings[known(m.Vulnerability.ID, related...)+" "+base(m.Artifact.PURL)] = true
	}
	return s, err
}

func readTrivy(out []byte) (said, error) {
	type identified struct {
		PURL string
	}
	var r struct {
		Results []struct {
			Packages        []struct{ Identifier identified }
			Vulnerabilities []struct {
				VulnerabilityID string
				PkgIdentifier   identified
			}
		}
	}
	err := json.Unmarshal(out, &r)
	s := said{map[string]bool{}, map[string]bool{}}
	for _, result := range r.Results {
		for _, p := range result.Packages {
			s.packages[base(p.Identifier.PURL)] = true
		}
		for _, v := range result.Vulnerabilities {
			s.findings[v.VulnerabilityID+" "+base(v.PkgIdentifier.PURL)] = true
		}
	}
	return s, err
}
