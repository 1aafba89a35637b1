package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// KEV is CISA's catalogue of vulnerabilities that are known to be exploited.
type KEV struct {
	Released time.Time
	Entries  []Exploited
	Skipped  []string // names of entries that were not usable
}

// Exploited is one entry.
type Exploited struct {
	CVE   string
	Added string // the day, as published: 2006-01-02
}

// ParseKEV reads known_exploited_vulnerabilities.json.
func ParseKEV(r io.Reader) (KEV, error) {
	var doc struct {
		Released string            `json:"dateReleased"`
		Entries  []json.RawMessage `json:"vulnerabilities"`
	}
	if err := json.NewDecoder(r).Decode(&doc); err != nil {
		return KEV{}, fmt.Errorf("the KEV catalogue: %w", err)
	}
	if doc.Entries == nil {
		return KEV{}, errors.New("the KEV catalogue: there is no list of vulnerabilities")
	}
	kev := KEV{Released: osvTime(doc.Released)}
	for i, raw := range doc.Entries {
		var entry struct {
			CVE   string `json:"cveID"`
			Added string `json:"dateAdded"`
		}
		err := json.Unmarshal(raw, &entry)
		if err != nil || !strings.HasPrefix(entry.CVE, "CVE-") || len(entry.CVE) > maxID || !printable(entry.CVE) {
			kev.Skipped = append(kev.Skipped, fmt.Sprintf("vulnerabilities[%d]", i))
			continue
		}
		kev.Entries = append(kev.Entries, Exploited{CVE: entry.CVE, Added: clip(entry.Added, 10)})
	}
	return kev, nil
}
