package intel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"time"

	"github.com/breakwater-sec/breakwater/internal/report"
)

// Schema is the version of the bundle's form. An older program refuses a newer
// bundle; a newer program refuses an older one too, as an update makes it anew.
const Schema = 2

// reader is raised when the same publishers' bytes are read differently: then
// nothing is carried over as unchanged.
const reader = 2

// The reasons for which a bundle is not used. Errors of Open wrap one of them,
// and name the file and the way out.
var (
	ErrNoBundle  = errors.New("there is no intelligence bundle")
	ErrUntrusted = errors.New("the intelligence bundle is not signed by the trusted key")
	ErrCorrupt   = errors.New("the intelligence bundle is corrupt")
	ErrSchema    = errors.New("the intelligence bundle has another schema")
	ErrBusy      = errors.New("another process is updating the intelligence bundle")
)

// Manifest describes one bundle. It is what the signature covers.
type Manifest struct {
	Schema  int       `json:"schema"`
	Reader  int       `json:"reader"`
	Version string    `json:"version"` // day of the build and digest of the content: 2026-11-22-0a1b2c3d4e5f
	Built   time.Time `json:"built"`
	SHA256  string    `json:"sha256"` // of bundle.db, hex
	Size    int64     `json:"size"`   // of bundle.db, bytes
	Sources []Source  `json:"sources"`
}

// Source is what became of one publisher's data.
type Source struct {
	Name string `json:"name"` // kev, debian, osv/npm, …
	URL  string `json:"url"`
	// Licence of the data, in the publisher's words or as an SPDX id; empty when
	// the publisher states none.
	Licence string `json:"licence,omitempty"`
	// Imported says that the data came from another scanner's database or a
	// list on disk, which updates leave as it is.
	Imported bool `json:"imported,omitempty"`
	// Ecosystems counts the vulnerabilities known per ecosystem (Debian:12).
	Ecosystems map[string]int `json:"ecosystems,omitempty"`
	Records    int            `json:"records"` // kept ones; withdrawn ones are not
	// Updated is the newest change that the publisher states; zero when it
	// states none.
	Updated time.Time `json:"updated,omitzero"`
	// Fetched is when the publisher last confirmed these data; zero when never.
	Fetched time.Time `json:"fetched,omitzero"`
	// Skipped counts records that are malformed or name versions that have no
	// place in their ecosystem's order; Examples names the first of them.
	Skipped  int      `json:"skipped,omitempty"`
	Examples []string `json:"examples,omitempty"`
	// Error says why the last attempt failed; the data are those of Fetched.
	Error string `json:"error,omitempty"`

	// What makes a conditional request, and the SHA-256 of what was read.
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Digest       string `json:"digest,omitempty"`
	// The same of the publisher's list of changes, for those that have one.
	Index Validator `json:"index,omitzero"`
}

// Validator is what a publisher's answer says of its own version.
type Validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Digest       string `json:"digest,omitempty"`
}

func (s Source) validator() Validator { return Validator{s.ETag, s.LastModified, s.Digest} }

// Age is the time that the data are known to be good for: the publisher's own
// statement of their newest change, else when they were fetched.
func (s Source) Age() time.Time {
	if s.Updated.IsZero() {
		return s.Fetched
	}
	return s.Updated
}

// Failures returns the sources whose last attempt failed.
func (m Manifest) Failures() []Source {
	var failed []Source
	for _, s := range m.Sources {
		if s.Error != "" {
			failed = append(failed, s)
		}
	}
	return failed
}

// Intelligence is the manifest in the form of a scan's report.
func (m Manifest) Intelligence() *report.Intelligence {
	in := &report.Intelligence{Version: m.Version, Built: m.Built, Ecosystems: map[string]report.Freshness{}}
	for _, s := range m.Sources {
		for ecosystem, n := range s.Ecosystems {
			f := in.Ecosystems[ecosystem]
			f.Advisories += n
			if f.Updated.IsZero() || s.Age().Before(f.Updated) {
				f.Updated = s.Age()
			}
			in.Ecosystems[ecosystem] = f
		}
	}
	return in
}

func (m Manifest) source(name string) (Source, bool) {
	for _, s := range m.Sources {
		if s.Name == name {
			return s, true
		}
	}
	return Source{}, false
}

// digestFile is the SHA-256 of a file, in hex, and its size.
func digestFile(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	n, err := io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
