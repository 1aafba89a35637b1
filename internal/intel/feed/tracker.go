package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// trackerIssue is one vulnerability of one source package in the tracker.
type trackerIssue struct {
	Description string                    `json:"description"`
	Releases    map[string]trackerRelease `json:"releases"`
}

type trackerRelease struct {
	Status       string  `json:"status"`
	FixedVersion string  `json:"fixed_version"`
	Urgency      string  `json:"urgency"`
	NoDSA        *string `json:"nodsa"`
	NoDSAReason  string  `json:"nodsa_reason"`
}

// debianReleases gives the numbers of Debian's releases
// (https://www.debian.org/releases/): images name theirs by number, the
// tracker by codename. Unknown codenames, and those without a number yet, stay
// codenames.
func debianRelease(codename string) string {
	switch codename {
	case "wheezy":
		return "7"
	case "jessie":
		return "8"
	case "stretch":
		return "9"
	case "buster":
		return "10"
	case "bullseye":
		return "11"
	case "bookworm":
		return "12"
	case "trixie":
		return "13"
	case "forky":
		return "14"
	}
	return codename
}

// ParseTracker reads the Debian security tracker's JSON and calls each with one
// advisory for one source package, releases as "Debian:12". A malformed package
// or issue is handed to skip with its name and reading goes on; a document that
// is not the tracker's is an error. each returning an error ends the reading.
//
// Statuses: resolved with a version is fixed there, "0" means that the release
// never was affected, and such pairs are left out; open is affected, or what
// the security team decided about it (ignored: will not fix; another nodsa
// note: deferred; urgency end-of-life: end of life); undetermined is under
// investigation. Urgency unimportant is the severity negligible.
func ParseTracker(r io.Reader, each func(vuln.Advisory) error, skip func(name string, err error)) error {
	dec := decode(r)
	if err := dec.openObject("the tracker's JSON"); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("tracker: %w", err)
		}
		var issues map[string]json.RawMessage
		var wrong *json.UnmarshalTypeError
		if err := dec.next(&issues); errors.As(err, &wrong) {
			skip(fmt.Sprint(name), errors.New("not an object of issues"))
			continue
		} else if err != nil {
			return fmt.Errorf("tracker: after package %q: %w", name, err)
		}
		if err := eachIssue(fmt.Sprint(name), issues, each, skip); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("tracker: the end is missing: %w", err)
	}
	return nil
}

func eachIssue(pkg string, issues map[string]json.RawMessage, each func(vuln.Advisory) error, skip func(string, error)) error {
	for _, id := range slices.Sorted(maps.Keys(issues)) {
		advisory, err := trackerAdvisory(pkg, id, issues[id])
		if err != nil {
			skip(clip(pkg+"/"+id, maxID), err)
			continue
		}
		if len(advisory.Affected) == 0 {
			continue
		}
		if err := each(advisory); err != nil {
			return err
		}
	}
	return nil
}

func trackerAdvisory(pkg, id string, data json.RawMessage) (vuln.Advisory, error) {
	if pkg == "" || len(pkg) > maxID || !printable(pkg) || id == "" || len(id) > maxID || !printable(id) {
		return vuln.Advisory{}, errors.New("the names are not usable")
	}
	var issue trackerIssue
	if err := json.Unmarshal(data, &issue); err != nil {
		return vuln.Advisory{}, err
	}
	a := vuln.Advisory{ID: id, Source: "debian", Title: title(issue.Description, ""),
		URL: "https://security-tracker.debian.org/tracker/" + id}
	for _, codename := range slices.Sorted(maps.Keys(issue.Releases)) {
		affected, ok, err := issue.Releases[codename].convert()
		if err != nil {
			return a, fmt.Errorf("release %s: %w", clip(codename, 50), err)
		}
		if ok {
			affected.Ecosystem, affected.Name = "Debian:"+debianRelease(codename), pkg
			a.Affected = append(a.Affected, affected)
		}
	}
	return a, nil
}

// convert gives the affected versions in one release; ok is false when it
// never was affected.
func (r trackerRelease) convert() (a vuln.Affected, ok bool, err error) {
	points := []vuln.Point{{Introduced: "0"}}
	if sev, known := vuln.FromWord(strings.TrimRight(r.Urgency, "*")); known {
		a.Severity = sev
	}
	switch r.Status {
	case "resolved":
		if r.FixedVersion == "0" {
			return a, false, nil
		}
		if _, err := vuln.CompareDebian(r.FixedVersion, "0"); err != nil {
			return a, false, err
		}
		points = append(points, vuln.Point{Fixed: r.FixedVersion})
		a.State = event.FixFixed
	case "open":
		a.State = r.openState()
	case "undetermined":
		a.State = event.FixInvestigating
	default:
		return a, false, fmt.Errorf("unknown status %q", clip(r.Status, 50))
	}
	a.Ranges = []vuln.Range{{Events: points}}
	return a, true, nil
}

func (r trackerRelease) openState() event.FixState {
	switch {
	case r.Urgency == "end-of-life":
		return event.FixEndOfLife
	case r.NoDSAReason == "ignored":
		return event.FixWontFix
	case r.NoDSA != nil:
		return event.FixDeferred
	}
	return event.FixAffected
}
