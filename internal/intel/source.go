package intel

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// The public sources.
const (
	publicOSV     = "https://osv-vulnerabilities.storage.googleapis.com"
	publicTracker = "https://security-tracker.debian.org/tracker/data/json"
	publicKEV     = "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json"
)

// addresses says where the publishers' files are.
type addresses struct{ osv, tracker, kev string }

// addressesOf gives the public addresses, or those of one base that mirrors the
// publishers' layouts: BASE/osv/, BASE/debian/tracker.json, BASE/kev/….
func addressesOf(base string) (addresses, error) {
	if base == "" {
		return addresses{publicOSV, publicTracker, publicKEV}, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return addresses{}, fmt.Errorf("source %q: %w", base, err)
	}
	if u.Scheme == "" || u.Scheme != "file" && u.Host == "" {
		return addresses{}, fmt.Errorf("source %q: not an address such as https://mirror.example/advisories or file:///mnt/advisories", base)
	}
	if err := checkURL(u); err != nil {
		return addresses{}, fmt.Errorf("source %w", err)
	}
	at := func(elem ...string) string { return u.JoinPath(elem...).String() }
	return addresses{at("osv"), at("debian", "tracker.json"), at("kev", "known_exploited_vulnerabilities.json")}, nil
}

// source is one publisher's data set: where it is and how its file is read
// into the writer. Read returns the publisher's own newest change, or zero.
type source struct {
	name  string
	url   string
	csv   string // address of modified_id.csv, if there is one
	limit int64
	read  func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error)
}

// notes collects what a reader left out.
type notes struct {
	skipped  int
	examples []string
}

const maxExamples = 5

func (n *notes) skip(name string, err error) {
	n.skipped++
	if len(n.examples) < maxExamples {
		n.examples = append(n.examples, fmt.Sprintf("%s: %v", name, err))
	}
}

// check notes what of an advisory cannot be judged; the rest of it can.
func (n *notes) check(a vuln.Advisory, keep func(string) bool) {
	for i := range a.Affected {
		order, ok := vuln.OrderOf(a.Affected[i].Ecosystem)
		if !ok || !keep(a.Affected[i].Ecosystem) {
			continue
		}
		if err := a.Affected[i].Check(order); err != nil {
			n.skip(a.ID, err)
		}
	}
}

func kevSource(at addresses) source {
	return source{name: "kev", url: at.kev, limit: maxKEV,
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

func debianSource(at addresses) source {
	return source{name: "debian", url: at.tracker, limit: maxTracker,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			every := func(string) bool { return true }
			add := func(a vuln.Advisory) error { return w.add(ctx, "debian", a, every) }
			return time.Time{}, feed.ParseTracker(file, add, note.skip)
		}}
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
	name, base := "osv/"+ecosystem, at.osv+"/"+url.PathEscape(ecosystem)
	return source{name: name, url: base + "/all.zip", csv: base + "/modified_id.csv", limit: maxExport,
		read: func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error) {
			info, err := file.Stat()
			if err != nil {
				return time.Time{}, err
			}
			var newest time.Time
			each := func(a vuln.Advisory) error {
				if a.Modified.After(newest) {
					newest = a.Modified
				}
				if a.Withdrawn {
					return nil
				}
				note.check(a, keep)
				return errors.Join(w.rate(ctx, name, a), w.add(ctx, name, a, keep))
			}
			err = feed.ReadExport(ctx, file, info.Size(), each, note.skip)
			return newest, err
		}}
}
