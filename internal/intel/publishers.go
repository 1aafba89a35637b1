package intel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// addresses says where publishers' files are: at the publishers, or below one
// base that mirrors their layouts (docs/intelligence.md has the table).
type addresses struct{ mirror *url.URL }

// at gives the mirror's path, or else the publisher's address.
func (a addresses) at(public string, mirrored ...string) string {
	if a.mirror == nil {
		return public
	}
	return place(a.mirror, mirrored...)
}

func (a addresses) osv() string {
	return a.at("https://osv-vulnerabilities.storage.googleapis.com", "osv")
}

const (
	licenceCC0  = "CC0-1.0"
	licenceCCBY = "CC-BY-4.0"
	licenceGov  = "public domain (US government work)"
)

func kevSource(at addresses) source {
	address := at.at("https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json", "kev", "known_exploited_vulnerabilities.json")
	return source{name: "kev", url: address, limit: maxKEV, licence: licenceCC0,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			catalogue, err := feed.ParseKEV(file)
			if err != nil {
				return time.Time{}, err
			}
			for _, name := range catalogue.Skipped {
				note.skip(name, errors.New("no usable CVE id"))
			}
			for _, e := range catalogue.Entries {
				if err := w.exploit(ctx, "kev", e); err != nil {
					return time.Time{}, err
				}
			}
			return catalogue.Released, nil
		}}
}

func epssSource(at addresses) source {
	address := at.at("https://epss.empiricalsecurity.com/epss_scores-current.csv.gz", "epss", "epss_scores-current.csv.gz")
	return source{name: "epss", url: address, limit: maxKEV, optional: true, licence: "free to use, to be named as FIRST's EPSS",
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			return feed.ParseEPSS(file, func(e feed.Exploitability) error { return w.likely(ctx, "epss", e) }, note.skip)
		}}
}

// nvdSources are NVD's yearly files, for severities.
func nvdSources(at addresses, now time.Time) []source {
	var list []source
	for year := 2002; year <= now.Year(); year++ {
		name, file := fmt.Sprintf("nvd/%d", year), fmt.Sprintf("nvdcve-2.0-%d.json.gz", year)
		list = append(list, source{name: name, limit: maxExport, optional: true, licence: licenceGov,
			url: at.at("https://nvd.nist.gov/feeds/json/cve/2.0/"+file, "nvd", file),
			read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
				return feed.ParseNVD(file, func(r feed.Rating) error { return w.score(ctx, name, r.CVE, r) }, note.skip)
			}})
	}
	return list
}

func debianSource(at addresses) source {
	address := at.at("https://security-tracker.debian.org/tracker/data/json", "debian", "tracker.json")
	return source{name: "debian", url: address, limit: maxTracker, licence: "public tracker data",
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			add := func(a vuln.Advisory) error { return w.add(ctx, "debian", a.ID, a, every) }
			return time.Time{}, feed.ParseTracker(file, add, note.skip)
		}}
}

func every(string) bool { return true }

// alpineSources are the databases of the branches that are supported or were so
// not long ago.
func alpineSources(at addresses) []source {
	branches := []string{"edge"}
	for minor := 12; minor <= 24; minor++ {
		branches = append(branches, fmt.Sprintf("v3.%d", minor))
	}
	var list []source
	for _, branch := range branches {
		for _, repository := range []string{"main", "community"} {
			s := secdbSource("alpine/"+branch+"/"+repository, at.at("https://secdb.alpinelinux.org/"+branch+"/"+repository+".json", "alpine", branch, repository+".json"),
				"Alpine:"+branch, "alpine")
			s.optional = true // the next branch is not there yet, edge not everywhere
			list = append(list, s)
		}
	}
	return list
}

// wolfiSources are for mirrors that the user names: the publisher's licence
// does not let everybody use these data.
func wolfiSources(at addresses, ecosystem string) []source {
	if at.mirror == nil {
		return nil
	}
	name := strings.ToLower(ecosystem)
	s := secdbSource(name, place(at.mirror, name, "security.json"), ecosystem, name)
	s.licence = "CC-BY-NC-ND-4.0 or by agreement with Chainguard: check that you may use it"
	return []source{s}
}

func secdbSource(name, address, ecosystem, publisher string) source {
	return source{name: name, url: address, limit: maxTracker,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			add := func(a vuln.Advisory) error { return w.add(ctx, name, a.ID, a, every) }
			return time.Time{}, feed.ParseSecDB(file, ecosystem, publisher, add, note.skip)
		}}
}

func ovalSource(name, address, ecosystem, publisher, licence string) source {
	return source{name: name, url: address, limit: maxExport, optional: true, licence: licence,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			add := func(record string, a vuln.Advisory) error { return w.add(ctx, name, record, a, every) }
			return time.Time{}, feed.ParseOVAL(file, ecosystem, publisher, add, note.skip)
		}}
}

func suseSources(at addresses) []source {
	const public = "https://ftp.suse.com/pub/projects/security/oval/"
	var list []source
	for _, file := range []string{"suse.linux.enterprise.12", "suse.linux.enterprise.15", "suse.linux.enterprise.micro.5", "suse.linux.micro.6"} {
		list = append(list, ovalSource("suse/"+file, at.at(public+file+".xml.bz2", "suse", file+".xml.bz2"), "", "suse", licenceCCBY))
	}
	return list
}

func openSUSESources(at addresses) []source {
	const public = "https://ftp.suse.com/pub/projects/security/oval/"
	var list []source
	for _, file := range []string{"opensuse.leap.15.5", "opensuse.leap.15.6", "opensuse.leap.16.0", "opensuse.tumbleweed"} {
		list = append(list, ovalSource("suse/"+file, at.at(public+file+".xml.bz2", "suse", file+".xml.bz2"), "", "suse", licenceCCBY))
	}
	return list
}

func oracleSources(at addresses) []source {
	return []source{ovalSource("oracle", at.at("https://linux.oracle.com/security/oval/com.oracle.elsa-all.xml.bz2", "oracle", "com.oracle.elsa-all.xml.bz2"), "", "oracle", "")}
}

func azureSources(at addresses) []source {
	const public = "https://raw.githubusercontent.com/microsoft/AzureLinuxVulnerabilityData/main/"
	return []source{
		ovalSource("azure/3", at.at(public+"azurelinux-3.0-oval.xml", "azure", "azurelinux-3.0-oval.xml"), "Azure Linux:3", "azure", "MIT"),
		ovalSource("azure/2", at.at(public+"cbl-mariner-2.0-oval.xml", "azure", "cbl-mariner-2.0-oval.xml"), "Azure Linux:2", "azure", "MIT"),
	}
}

// amazonSources follow a repository's list of mirrors to its updateinfo.xml; a
// mirror of advisories has that file itself.
func amazonSources(at addresses) []source {
	var list []source
	for _, r := range []struct{ version, list string }{
		{"2", "https://cdn.amazonlinux.com/2/core/latest/x86_64/mirror.list"},
		{"2023", "https://cdn.amazonlinux.com/al2023/core/mirrors/latest/x86_64/mirror.list"},
	} {
		name := "amazon/" + r.version
		s := source{name: name, url: r.list, limit: maxExport, optional: true,
			read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
				add := func(a vuln.Advisory) error { return w.add(ctx, name, a.ID, a, every) }
				return time.Time{}, feed.ParseUpdateInfo(file, "Amazon Linux:"+r.version, "amazon", add, note.skip)
			}}
		if at.mirror != nil {
			s.url = place(at.mirror, "amazon", r.version, "updateinfo.xml.gz")
		} else {
			s.pointer, s.hops = repositoryPointer, 2
		}
		list = append(list, s)
	}
	return list
}

// repositoryPointer goes from a mirror list to repomd.xml to updateinfo.xml.gz.
func repositoryPointer(base, text string) (string, error) {
	if strings.HasSuffix(base, "mirror.list") {
		first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		return strings.TrimSuffix(strings.TrimSpace(first), "/") + "/repodata/repomd.xml", nil
	}
	location, err := feed.UpdateInfoLocation(strings.NewReader(text))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(base, "repodata/repomd.xml") + location, nil
}

// redhatSources is Red Hat's archive of VEX documents, a document a CVE.
func redhatSources(at addresses) []source {
	base := at.at("https://security.access.redhat.com/data/csaf/v2/vex", "redhat", "vex")
	read := func(ctx context.Context, w *writer, data []byte, newest *time.Time) error {
		a, err := feed.ParseCSAF(data)
		if err != nil {
			return err
		}
		if a.Modified.After(*newest) {
			*newest = a.Modified
		}
		return local(errors.Join(w.rate(ctx, "redhat", a.ID, a), w.add(ctx, "redhat", a.ID, a, every)))
	}
	return []source{{name: "redhat", url: base + "/archive_latest.txt", limit: maxExport, optional: true, licence: licenceCCBY,
		hops: 1, pointer: func(_, text string) (string, error) {
			name := strings.TrimSpace(text)
			if name == "" || len(name) > 200 || strings.ContainsAny(name, "/\\ \n?#") {
				return "", errors.New("archive_latest.txt does not name a file")
			}
			return base + "/" + name, nil
		},
		changes: &changes{url: base + "/changes.csv", list: func(f *os.File) ([]feed.Change, error) { return feed.ParseChanges(f) },
			record: func(path string) string { return base + "/" + path },
			id:     func(p string) string { return strings.ToUpper(strings.TrimSuffix(path.Base(p), ".json")) },
			read: func(ctx context.Context, w *writer, data []byte, _ *notes) error {
				var newest time.Time
				return read(ctx, w, data, &newest)
			}},
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (newest time.Time, err error) {
			err = eachDocument(ctx, file, note, func(data []byte) error { return read(ctx, w, data, &newest) })
			return newest, err
		}}}
}

// ubuntuSources is Canonical's archive of OSV records.
func ubuntuSources(at addresses) []source {
	address := at.at("https://security-metadata.canonical.com/osv/osv-all.tar.xz", "ubuntu", "osv-all.tar.xz")
	keep := func(name string) bool { return strings.HasPrefix(name, "Ubuntu:") }
	return []source{{name: "ubuntu", url: address, limit: maxExport, optional: true, licence: "CC-BY-SA-4.0",
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (newest time.Time, err error) {
			err = eachDocument(ctx, file, note, func(data []byte) error {
				a, err := feed.ParseOSV(data)
				if err != nil || strings.HasPrefix(a.ID, "USN-") || strings.HasPrefix(a.ID, "LSN-") {
					return err // notices repeat what the records by CVE say
				}
				return addOSV(ctx, w, "ubuntu", a, keep, note, &newest)
			})
			return newest, err
		}}}
}

// localError is a fault of this machine's database, not of a record.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

func local(err error) error {
	if err == nil {
		return nil
	}
	return localError{err}
}

// eachDocument reads the JSON documents of an archive; a malformed one spoils
// no other, unless most are.
func eachDocument(ctx context.Context, file io.Reader, note *notes, read func(data []byte) error) error {
	good, bad := 0, 0
	isJSON := func(name string) bool { return strings.HasSuffix(name, ".json") }
	skip := func(name string, err error) { bad++; note.skip(name, err) }
	err := feed.EachFile(ctx, file, isJSON, func(name string, data []byte) error {
		err := read(data)
		var stop localError
		switch {
		case errors.As(err, &stop):
			return stop
		case err != nil:
			skip(path.Base(name), err)
		default:
			good++
		}
		return nil
	}, skip)
	if err == nil && bad >= good {
		return fmt.Errorf("%d of %d documents are malformed", bad, good+bad)
	}
	return err
}

func osvSource(at addresses, ecosystem string) source {
	keep := func(name string) bool { return name == ecosystem || strings.HasPrefix(name, ecosystem+":") }
	return osvExport(at, ecosystem, keep)
}

// ratingSource reads OSV's export of Debian for severities only: what is
// affected, the security tracker says itself.
func ratingSource(at addresses) source {
	return osvExport(at, "Debian", func(string) bool { return false })
}

func osvExport(at addresses, ecosystem string, keep func(string) bool) source {
	name, base := "osv/"+ecosystem, at.osv()+"/"+url.PathEscape(ecosystem)
	return source{name: name, url: base + "/all.zip", limit: maxExport, licence: osvLicence(ecosystem),
		changes: &changes{url: base + "/modified_id.csv", whole: true,
			list:   func(f *os.File) ([]feed.Change, error) { return feed.ParseModified(f) },
			record: func(id string) string { return base + "/" + url.PathEscape(id) + ".json" },
			id:     func(id string) string { return id },
			read: func(ctx context.Context, w *writer, data []byte, note *notes) error {
				a, err := feed.ParseOSV(data)
				if err != nil {
					return err
				}
				var newest time.Time
				return addOSV(ctx, w, name, a, keep, note, &newest)
			}},
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (newest time.Time, err error) {
			info, err := file.Stat()
			if err != nil {
				return time.Time{}, err
			}
			each := func(a vuln.Advisory) error { return addOSV(ctx, w, name, a, keep, note, &newest) }
			err = feed.ReadExport(ctx, file, info.Size(), each, note.skip)
			return newest, err
		}}
}

// addOSV takes up one record.
func addOSV(ctx context.Context, w *writer, name string, a vuln.Advisory, keep func(string) bool, note *notes, newest *time.Time) error {
	if a.Modified.After(*newest) {
		*newest = a.Modified
	}
	if a.Withdrawn || feed.IsUpdateOnly(a) {
		return nil
	}
	note.check(a, keep)
	return local(errors.Join(w.rate(ctx, name, a.ID, a), w.add(ctx, name, a.ID, a, keep)))
}

// osvLicence is that of an ecosystem's records
// (https://google.github.io/osv.dev/data/).
func osvLicence(ecosystem string) string {
	switch ecosystem {
	case "AlmaLinux":
		return "MIT"
	case "Rocky Linux":
		return "BSD-3-Clause"
	case "Bitnami":
		return "Apache-2.0"
	case "crates.io":
		return "CC0-1.0, GitHub's advisories CC-BY-4.0"
	case "Ubuntu":
		return "CC-BY-SA-4.0"
	}
	return licenceCCBY
}

// listSources are hashes and indicators that the user names.
func listSources(lists []List) ([]source, error) {
	var out []source
	for _, l := range lists {
		if !feed.ValidEcosystem(l.Name) {
			return nil, fmt.Errorf("list %q: a name of letters, digits and dashes is needed", l.Name)
		}
		out = append(out, listSource("list/"+l.Name, l.URL, l.Licence))
	}
	return out, nil
}

func listSource(name, address, licence string) source {
	return source{name: name, url: address, limit: maxExport, licence: licence,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			return time.Time{}, feed.ParseObservables(file, func(o feed.Observable) error { return w.observe(ctx, name, o) }, note.skip)
		}}
}

func detectionSource(address string) source {
	return source{name: "detections", url: address, limit: maxKEV,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			return time.Time{}, feed.ParseDetections(ctx, file, func(name string, text []byte) error { return w.detect(ctx, "detections", name, text) }, note.skip)
		}}
}
