package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// indented writes v as JSON for people and programs.
func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// fingerprint is a name for what the parts say; the same in every run.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// uuid has the shape of RFC 9562's version 8, whose bits are the application's.
func uuid(parts ...string) string {
	b := []byte(fingerprint(parts...))
	b[12], b[16] = '8', "89ab"[b[16]&3]
	return fmt.Sprintf("%s-%s-%s-%s-%s", b[:8], b[8:12], b[12:16], b[16:20], b[20:])
}

// identity is a UUID of this report's content in one format: two reports that
// say the same of the same image have the same one.
func (r *Report) identity(format string) string {
	content, _ := json.Marshal(r) // a report that came out of a scan is plain
	return uuid(format, string(content))
}

func (r *Report) intelligence() string {
	if r.Intelligence == nil {
		return ""
	}
	return r.Intelligence.Version
}

// packageRefs names each package within a document: by its purl, and by its
// place too when several have the same.
type packageRefs map[string]int

func references(packages []event.Package) packageRefs {
	n := packageRefs{}
	for i := range packages {
		n[packages[i].PURL]++
	}
	return n
}

func (n packageRefs) of(p *event.Package) string {
	if p.PURL != "" && n[p.PURL] <= 1 {
		return p.PURL
	}
	return p.PURL + "#" + fingerprint(p.Name, p.Version, p.Path, p.Layer)[:12]
}

// webURL is u when it is one that a browser opens, else nothing.
func webURL(u string) string {
	parsed, err := url.Parse(u)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return ""
	}
	return parsed.String()
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// joined joins the parts that are not empty.
func joined(with string, parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, with)
}
