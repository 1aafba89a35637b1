package feed

import (
	"bufio"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Change is one record of a publisher and when it changed last; the time is
// zero when the publisher states none.
type Change struct {
	Path string // OSV: the id; Red Hat: 2024/cve-2024-1.json
	Time time.Time
}

// ParseModified reads an ecosystem's modified_id.csv: lines of "RFC 3339
// time,ID", newest first.
func ParseModified(r io.Reader) ([]Change, error) {
	var list []Change
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		stamp, id, ok := strings.Cut(lines.Text(), ",")
		if i := strings.LastIndexByte(id, '/'); i >= 0 {
			id = id[i+1:] // the list of all ecosystems has ECOSYSTEM/ID
		}
		// The id becomes a part of an address.
		if !ok || id == "" || len(id) > maxID || !printable(id) || id[0] == '.' || strings.ContainsAny(id, "?#%\\") {
			return nil, errors.New("modified_id.csv: a line is not TIME,ID")
		}
		if list = append(list, Change{id, osvTime(stamp)}); len(list) > maxRecords {
			return nil, fmt.Errorf("modified_id.csv: more than %d lines", maxRecords)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("modified_id.csv: %w", err)
	}
	return list, nil
}

// ParseChanges reads Red Hat's changes.csv: lines of "path","RFC 3339 time",
// newest first.
func ParseChanges(r io.Reader) ([]Change, error) {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord = 2, true
	var list []Change
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("changes.csv: %w", err)
		}
		if p := row[0]; len(p) > maxID || !printable(p) || path.Clean(p) != p || strings.HasPrefix(p, "/") || strings.HasPrefix(p, "..") || strings.ContainsAny(p, "?#%\\:") {
			return nil, errors.New("changes.csv: a line does not begin with a path")
		}
		if list = append(list, Change{strings.Clone(row[0]), osvTime(row[1])}); len(list) > maxRecords {
			return nil, fmt.Errorf("changes.csv: more than %d lines", maxRecords)
		}
	}
}

// UpdateInfoLocation finds the updateinfo file in a yum repository's
// repomd.xml.
func UpdateInfoLocation(r io.Reader) (string, error) {
	var doc struct {
		Data []struct {
			Type     string `xml:"type,attr"`
			Location struct {
				Href string `xml:"href,attr"`
			} `xml:"location"`
		} `xml:"data"`
	}
	if err := xml.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&doc); err != nil {
		return "", fmt.Errorf("repomd.xml: %w", err)
	}
	for _, d := range doc.Data {
		href := d.Location.Href
		if d.Type == "updateinfo" && href != "" && path.Clean(href) == href && !strings.HasPrefix(href, "/") && !strings.HasPrefix(href, "..") && !strings.ContainsAny(href, ":?#") {
			return href, nil
		}
	}
	return "", errors.New("repomd.xml: there is no updateinfo")
}

// IsUpdateOnly says of an erratum that it mends no vulnerability: a fix of
// errors, an enhancement.
func IsUpdateOnly(a vuln.Advisory) bool {
	for _, prefix := range []string{"ALBA-", "ALEA-", "RLBA-", "RLEA-", "RHBA-", "RHEA-", "ELBA-"} {
		if strings.HasPrefix(a.ID, prefix) {
			for _, alias := range a.Aliases {
				if isCVE(alias) {
					return false
				}
			}
			return true
		}
	}
	return false
}
