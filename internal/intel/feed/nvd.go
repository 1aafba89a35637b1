package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Rating is what a publisher says of how severe a CVE is.
type Rating struct {
	CVE      string
	Severity event.Severity
	Source   string // nvd, …
	Vector   string // CVSS, as published
}

type nvdCVE struct {
	ID       string `json:"id"`
	Modified string `json:"lastModified"`
	Status   string `json:"vulnStatus"`
	Metrics  struct {
		V40 []nvdMetric `json:"cvssMetricV40"`
		V31 []nvdMetric `json:"cvssMetricV31"`
		V30 []nvdMetric `json:"cvssMetricV30"`
		V2  []nvdMetric `json:"cvssMetricV2"`
	} `json:"metrics"`
}

type nvdMetric struct {
	Source string `json:"source"`
	Type   string `json:"type"` // Primary, Secondary
	Data   struct {
		Vector   string `json:"vectorString"`
		Severity string `json:"baseSeverity"`
	} `json:"cvssData"`
	Severity string `json:"baseSeverity"` // version 2 has it here
}

// ParseNVD reads a CVE 2.0 document of the National Vulnerability Database, a
// yearly file or an answer of its API
// (https://nvd.nist.gov/developers/vulnerabilities), compressed or not: severity
// and vector only. Its CPE configurations name products, not packages, and are
// not read.
func ParseNVD(r io.Reader, each func(Rating) error, skip func(name string, err error)) (newest time.Time, err error) {
	plain, err := Unpack(r, 8<<30)
	if err != nil {
		return newest, fmt.Errorf("NVD: %w", err)
	}
	defer func() { _ = plain.Close() }() // only read
	dec := decode(plain)
	if err := dec.enterList("vulnerabilities"); err != nil {
		return newest, fmt.Errorf("NVD: %w", err)
	}
	for n := 0; dec.More(); n++ {
		var item struct {
			CVE nvdCVE `json:"cve"`
		}
		err := dec.next(&item)
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			skip(fmt.Sprintf("vulnerabilities[%d]", n), err)
			continue
		}
		if err != nil {
			return newest, fmt.Errorf("NVD: %w", err)
		}
		if t := dayOrTime(item.CVE.Modified); t.After(newest) {
			newest = t
		}
		rating, ok := item.CVE.rating()
		if !ok {
			continue
		}
		if err := each(rating); err != nil {
			return newest, err
		}
	}
	return newest, nil
}

// rating takes NVD's own score before another's, version 3 before 4 before 2.
func (c *nvdCVE) rating() (Rating, bool) {
	if !isCVE(c.ID) || c.Status == "Rejected" {
		return Rating{}, false
	}
	for _, metrics := range [][]nvdMetric{c.Metrics.V31, c.Metrics.V30, c.Metrics.V40, c.Metrics.V2} {
		for _, kind := range []string{"Primary", "Secondary"} {
			for _, m := range metrics {
				sev, _, ok := vuln.FromCVSS(m.Data.Vector)
				if m.Type == kind && ok {
					return Rating{CVE: c.ID, Severity: sev, Source: "nvd", Vector: m.Data.Vector}, true
				}
			}
		}
	}
	return Rating{}, false
}
