package grypedb

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"modernc.org/sqlite" // also the database/sql driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/intel/feed/trivydb"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Version is the schema that this package reads.
const Version = 6

// Sinks take what is read.
type Sinks struct {
	// Advisory's and Rating's record is Grype's provider: several speak of the
	// same vulnerability.
	Advisory   func(record string, a vuln.Advisory) error
	Rating     func(record string, r feed.Rating) error
	Exploited  func(feed.Exploited) error
	Likelihood func(feed.Exploitability) error
	Skip       func(name string, err error)
}

// maxBlob bounds one value of the database.
const maxBlob = 16 << 20

// Read reads the database at path. What is not affected is left out, and so are
// packages of extended support channels and those that go by CPE.
func Read(ctx context.Context, path string, to Sinks) (built time.Time, err error) {
	db, err := open(ctx, path)
	if err != nil {
		return built, fmt.Errorf("vulnerability.db: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if built, err = metadata(ctx, db); err == nil {
		err = errors.Join(readPackages(ctx, db, to), readRatings(ctx, db, to), readExploited(ctx, db, to), readLikelihood(ctx, db, to))
	}
	if err != nil {
		err = fmt.Errorf("vulnerability.db: %w", err)
	}
	return built, err
}

// open opens a database that somebody else made.
func open(ctx context.Context, path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&immutable=1&_pragma=query_only(1)&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)&_pragma=mmap_size(0)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := errors.Join(limit(ctx, db), onlyTables(ctx, db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func limit(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	for _, l := range []struct{ id, value int }{{sqlite3.SQLITE_LIMIT_LENGTH, maxBlob}, {sqlite3.SQLITE_LIMIT_ATTACHED, 0}, {sqlite3.SQLITE_LIMIT_VDBE_OP, 100_000}} {
		if _, e := sqlite.Limit(conn, l.id, l.value); e != nil {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, conn.Close())
}

// onlyTables refuses a database with code in it.
func onlyTables(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT type, name, coalesce(sql, '') FROM sqlite_schema")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for n := 0; rows.Next(); n++ {
		var kind, name, text string
		if err := rows.Scan(&kind, &name, &text); err != nil {
			return err
		}
		virtual := strings.Contains(strings.ToLower(text), "create virtual")
		if kind != "table" && kind != "index" || virtual || n > 1000 {
			return fmt.Errorf("it holds a %s %.80q; only plain tables are accepted", kind, name)
		}
	}
	return rows.Err()
}

func metadata(ctx context.Context, db *sql.DB) (built time.Time, err error) {
	var stamp string
	var model int
	err = db.QueryRowContext(ctx, "SELECT CAST(build_timestamp AS TEXT), model FROM db_metadata LIMIT 1").Scan(&stamp, &model)
	if err != nil {
		return built, fmt.Errorf("not a database of Grype: %w", err)
	}
	if model != Version {
		return built, fmt.Errorf("schema %d; %d can be imported", model, Version)
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05-07:00", "2006-01-02 15:04:05.999999999-07:00", time.DateTime} {
		if t, err := time.Parse(layout, stamp); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, nil
}

// row is one package that a vulnerability affects.
type row struct {
	vulnerability, status, provider string
	ecosystem, name                 string
	os                              system
	pkg, detail                     []byte
}

// system is an operating system's release, all empty for language packages.
type system struct{ id, major, minor, label, codename, channel string }

// detail is the blob of a vulnerability.
type detail struct {
	Description string   `json:"description"`
	Aliases     []string `json:"aliases"`
	Refs        []struct {
		URL string `json:"url"`
	} `json:"refs"`
	Severities []struct {
		Scheme string          `json:"scheme"`
		Value  json.RawMessage `json:"value"`
	} `json:"severities"`
}

// affected is the blob of a package.
type affected struct {
	CVEs       []string `json:"cves"`
	Qualifiers struct {
		Modularity *string `json:"rpm_modularity"`
	} `json:"qualifiers"`
	Ranges []struct {
		Version struct {
			Constraint string `json:"constraint"`
		} `json:"version"`
		Fix struct {
			Version string `json:"version"`
			State   string `json:"state"`
		} `json:"fix"`
	} `json:"ranges"`
}

func readPackages(ctx context.Context, db *sql.DB, to Sinks) error {
	channel := "''"
	if hasColumn(ctx, db, "operating_systems", "channel") {
		channel = "coalesce(os.channel, '')"
	}
	rows, err := db.QueryContext(ctx, `SELECT v.name, coalesce(v.status, ''), coalesce(v.provider_id, ''), coalesce(p.ecosystem, ''), p.name,
		coalesce(os.release_id, ''), coalesce(os.major_version, ''), coalesce(os.minor_version, ''), coalesce(os.label_version, ''), coalesce(os.codename, ''), `+channel+`,
		b.value, vb.value
		FROM affected_package_handles a
		JOIN vulnerability_handles v ON v.id = a.vulnerability_id
		JOIN packages p ON p.id = a.package_id
		LEFT JOIN operating_systems os ON os.id = a.operating_system_id
		LEFT JOIN blobs b ON b.id = a.blob_id
		LEFT JOIN blobs vb ON vb.id = v.blob_id
		ORDER BY a.id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.vulnerability, &r.status, &r.provider, &r.ecosystem, &r.name, &r.os.id, &r.os.major, &r.os.minor, &r.os.label,
			&r.os.codename, &r.os.channel, &r.pkg, &r.detail); err != nil {
			return err
		}
		if err := to.take(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}

func hasColumn(ctx context.Context, db *sql.DB, table, column string) bool {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2", table, column).Scan(&n)
	return err == nil && n > 0
}

func (to Sinks) take(r *row) error {
	ecosystem, source := r.place()
	if ecosystem == "" || r.os.channel != "" || !counts(r.status) {
		return nil
	}
	if !usable(r.vulnerability, 200) || !usable(r.name, 500) || strings.Contains(r.provider, "#") || len(r.provider) > 100 {
		to.Skip("a row", errors.New("the names are not usable"))
		return nil
	}
	var d detail
	var p affected
	if err := errors.Join(unmarshal(r.detail, &d), unmarshal(r.pkg, &p)); err != nil {
		to.Skip(r.vulnerability, err)
		return nil
	}
	a := d.advisory(r.vulnerability, source)
	for _, cve := range append(d.Aliases, p.CVEs...) {
		if cve != a.ID && usable(cve, 200) && len(a.Aliases) < 100 && (source == "osv" || strings.HasPrefix(cve, "CVE-") && !strings.HasPrefix(a.ID, "CVE-")) {
			a.Aliases = append(a.Aliases, cve)
		}
	}
	for _, x := range p.Ranges {
		found, ok, err := affectedBy(x.Version.Constraint, x.Fix.Version, x.Fix.State)
		if err != nil {
			to.Skip(r.vulnerability, err)
			continue
		}
		if !ok {
			continue
		}
		found.Ecosystem, found.Name = ecosystem, r.name
		if p.Qualifiers.Modularity != nil {
			found.Module = *p.Qualifiers.Modularity
		}
		a.Affected = append(a.Affected, found)
	}
	if len(a.Affected) == 0 {
		return nil
	}
	return to.Advisory(r.provider, a)
}

// counts: what is rejected is no vulnerability.
func counts(status string) bool { return status == "" || status == "active" || status == "analyzing" }

func unmarshal(data []byte, v any) error {
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, v)
}

func usable(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

func (d *detail) advisory(id, source string) vuln.Advisory {
	a := vuln.Advisory{ID: id, Source: source, Title: feed.Title(d.Description)}
	for _, ref := range d.Refs {
		if a.URL == "" && strings.HasPrefix(ref.URL, "https://") && len(ref.URL) <= 500 {
			a.URL = ref.URL
		}
	}
	for _, s := range d.Severities {
		var word string
		var cvss struct {
			Vector string `json:"vector"`
		}
		if json.Unmarshal(s.Value, &word) == nil {
			if sev, ok := vuln.FromWord(word); ok && a.SeveritySource != source {
				a.Severity, a.SeveritySource = sev, source
			}
		} else if json.Unmarshal(s.Value, &cvss) == nil && a.CVSS == "" {
			if sev, from, ok := vuln.FromCVSS(cvss.Vector); ok {
				a.CVSS = cvss.Vector
				if a.Severity == "" {
					a.Severity, a.SeveritySource = sev, from
				}
			}
		}
	}
	return a
}

// affectedBy turns a constraint and its fix into affected versions.
func affectedBy(constraint, fixed, state string) (x vuln.Affected, ok bool, err error) {
	constraint = strings.TrimSpace(constraint)
	if state == "not-affected" || len(constraint) > 100_000 {
		return x, false, nil
	}
	if constraint == "" || constraint == "none" {
		x.Ranges = []vuln.Range{{Events: []vuln.Point{{Introduced: "0"}}}}
	} else if x.Ranges, err = trivydb.Ranges([]string{constraint}); err != nil {
		return x, false, err
	}
	switch state {
	case "wont-fix":
		x.State = event.FixWontFix
	case "not-fixed":
		x.State = event.FixAffected
	case "fixed":
		x.State = event.FixFixed
		for i := range x.Ranges { // "<= 1.1, fixed in 1.2" says the fix apart
			events := x.Ranges[i].Events
			if last := events[len(events)-1]; last.Fixed == "" && fixed != "" && len(fixed) <= 200 && len(x.Ranges) == 1 {
				x.Ranges[i].Events = append(events[:1:1], vuln.Point{Fixed: fixed})
			}
		}
	}
	return x, true, nil
}

// place gives the ecosystem of a package, and whose word its advisories are.
func (r *row) place() (ecosystem, source string) {
	if r.os.id != "" {
		version := r.os.major
		switch {
		case r.os.minor == "":
		case r.os.id == "rhel" || r.os.id == "redhat":
			// What Red Hat says of a major release is repeated for each of its minor
			// ones, with the fixes of their extended support.
			return "", ""
		case r.os.id == "ubuntu" && len(r.os.minor) == 1:
			version += ".0" + r.os.minor // Grype takes zeros away in front
		default:
			version += "." + r.os.minor
		}
		id := map[string]string{"redhat": "rhel", "amazon": "amzn", "oraclelinux": "ol"}[r.os.id]
		id = cmp.Or(id, r.os.id)
		source = map[string]string{"rhel": "redhat", "amzn": "amazon", "ol": "oracle", "sles": "suse", "azurelinux": "azure", "mariner": "azure"}[id]
		return vuln.Distribution(id, cmp.Or(version, r.os.label), r.os.codename), cmp.Or(source, id)
	}
	for _, e := range [...]struct{ kind, ecosystem string }{
		{"npm", "npm"}, {"python", "PyPI"}, {"pypi", "PyPI"}, {"go-module", "Go"}, {"golang", "Go"}, {"java-archive", "Maven"}, {"maven", "Maven"},
		{"gem", "RubyGems"}, {"php-composer", "Packagist"}, {"composer", "Packagist"}, {"rust-crate", "crates.io"}, {"cargo", "crates.io"},
		{"dotnet", "NuGet"}, {"nuget", "NuGet"}, {"hex", "Hex"}, {"dart-pub", "Pub"}, {"swift", "SwiftURL"}, {"conan", "ConanCenter"}, {"hackage", "Hackage"}, {"bitnami", "Bitnami"},
	} {
		if e.kind == strings.ToLower(r.ecosystem) {
			return e.ecosystem, "osv"
		}
	}
	return "", ""
}

// readRatings reads NVD's severities, whose vulnerabilities go by CPE.
func readRatings(ctx context.Context, db *sql.DB, to Sinks) error {
	const query = `SELECT v.name, coalesce(v.status, ''), b.value FROM vulnerability_handles v JOIN blobs b ON b.id = v.blob_id
		WHERE v.provider_id = 'nvd' ORDER BY v.id`
	return each(ctx, db, query, func(rows *sql.Rows) error {
		var name, status string
		var blob []byte
		if err := rows.Scan(&name, &status, &blob); err != nil {
			return err
		}
		if !counts(status) || !strings.HasPrefix(name, "CVE-") || !usable(name, 50) {
			return nil
		}
		var d detail
		if err := unmarshal(blob, &d); err != nil {
			to.Skip(name, err)
			return nil
		}
		a := d.advisory(name, "nvd")
		if a.Severity == "" {
			return nil
		}
		return to.Rating("nvd", feed.Rating{CVE: name, Severity: a.Severity, Source: "nvd", Vector: a.CVSS})
	})
}

func readExploited(ctx context.Context, db *sql.DB, to Sinks) error {
	return each(ctx, db, "SELECT cve FROM known_exploited_vulnerability_handles ORDER BY cve", func(rows *sql.Rows) error {
		var cve string
		if err := rows.Scan(&cve); err != nil {
			return err
		}
		if !strings.HasPrefix(cve, "CVE-") || !usable(cve, 50) {
			return nil
		}
		return to.Exploited(feed.Exploited{CVE: cve})
	})
}

func readLikelihood(ctx context.Context, db *sql.DB, to Sinks) error {
	return each(ctx, db, "SELECT cve, epss, percentile FROM epss_handles ORDER BY cve", func(rows *sql.Rows) error {
		var cve string
		var score, percentile float64
		if err := rows.Scan(&cve, &score, &percentile); err != nil {
			return err
		}
		if !strings.HasPrefix(cve, "CVE-") || !usable(cve, 50) || !(0 <= score && score <= 1 && 0 <= percentile && percentile <= 1) {
			return nil
		}
		return to.Likelihood(feed.Exploitability{CVE: cve, Score: int(score*feed.EPSSUnit + 0.5), Percentile: int(percentile*feed.EPSSUnit + 0.5)})
	})
}

// each calls with every row; tables that an older database lacks are empty.
func each(ctx context.Context, db *sql.DB, query string, call func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil && strings.Contains(err.Error(), "no such table") {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		if err := call(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
