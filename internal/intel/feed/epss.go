package feed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Exploitability is FIRST's estimate for one CVE (https://www.first.org/epss).
type Exploitability struct {
	CVE string
	// Score is the probability of exploitation within 30 days, Percentile its
	// rank among all, both in units of 1/100,000, the precision of publication.
	Score, Percentile int
}

// EPSSUnit is the 1 of Exploitability's figures.
const EPSSUnit = 100_000

// ParseEPSS reads epss_scores-DATE.csv, compressed or not: a comment line with
// the date, the names of the columns, then "CVE,score,percentile" a line.
func ParseEPSS(r io.Reader, each func(Exploitability) error, skip func(name string, err error)) (scored time.Time, err error) {
	plain, err := Unpack(r, 1<<30)
	if err != nil {
		return time.Time{}, fmt.Errorf("the EPSS scores: %w", err)
	}
	defer func() { _ = plain.Close() }() // only read
	lines, seen := bufio.NewScanner(plain), 0
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if _, date, ok := strings.Cut(comment, "score_date:"); ok {
				scored = dayOrTime(date)
			}
			continue
		}
		if line == "" || strings.HasPrefix(line, "cve,") {
			continue
		}
		e, err := parseScore(line)
		if err != nil {
			skip(clip(line, 60), err)
			continue
		}
		if seen++; seen > maxRecords {
			return scored, fmt.Errorf("the EPSS scores: more than %d", maxRecords)
		}
		if err := each(e); err != nil {
			return scored, err
		}
	}
	if err := lines.Err(); err != nil {
		return scored, fmt.Errorf("the EPSS scores: %w", err)
	}
	if seen == 0 {
		return scored, errors.New("the EPSS scores: not one line of CVE,score,percentile")
	}
	return scored, nil
}

func parseScore(line string) (Exploitability, error) {
	cve, rest, _ := strings.Cut(line, ",")
	score, percentile, _ := strings.Cut(rest, ",")
	if !isCVE(cve) {
		return Exploitability{}, errors.New("no CVE id")
	}
	s, err1 := strconv.ParseFloat(score, 64)
	p, err2 := strconv.ParseFloat(percentile, 64)
	if err1 != nil || err2 != nil || !(0 <= s && s <= 1 && 0 <= p && p <= 1) {
		return Exploitability{}, errors.New("score and percentile are not numbers between 0 and 1")
	}
	return Exploitability{cve, int(s*EPSSUnit + 0.5), int(p*EPSSUnit + 0.5)}, nil
}

// isCVE: CVE-, four digits, a dash, digits.
func isCVE(s string) bool {
	rest, ok := strings.CutPrefix(s, "CVE-")
	if !ok || len(rest) < 6 || len(rest) > 20 || rest[4] != '-' {
		return false
	}
	for i := range len(rest) {
		if i != 4 && (rest[i] < '0' || rest[i] > '9') {
			return false
		}
	}
	return true
}

// dayOrTime reads a day or a time as publishers write them; else the zero time.
func dayOrTime(s string) time.Time {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05.999", "2006-01-02T15:04:05-0700", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1 {
			return t.UTC().Truncate(time.Second)
		}
	}
	return time.Time{}
}
