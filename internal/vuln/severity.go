package vuln

import (
	"strings"

	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxVector bounds a CVSS vector; a full 4.0 one is under 200 bytes.
const maxVector = 512

// FromCVSS computes the severity of a CVSS vector of version 2, 3.0, 3.1 or
// 4.0 by the qualitative scale of FIRST's specifications (3.1 §5, 4.0 §6; for
// version 2 the bands of NVD). A score of 0 is negligible. source is "cvss-v2",
// "cvss-v3" or "cvss-v4". ok is false for what is no vector.
func FromCVSS(vector string) (sev event.Severity, source string, ok bool) {
	if len(vector) > maxVector {
		return "", "", false
	}
	score, source, err := baseScore(vector)
	if err != nil {
		return "", "", false
	}
	return fromScore(score, source == "cvss-v2"), source, true
}

func baseScore(vector string) (score float64, source string, err error) {
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		v, err := gocvss40.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		return v.Score(), "cvss-v4", nil
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		v, err := gocvss31.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		return v.BaseScore(), "cvss-v3", nil
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		v, err := gocvss30.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		return v.BaseScore(), "cvss-v3", nil
	}
	v, err := gocvss20.ParseVector(vector)
	if err != nil {
		return 0, "", err
	}
	return v.BaseScore(), "cvss-v2", nil
}

func fromScore(score float64, two bool) event.Severity {
	switch {
	case score >= 9 && !two:
		return event.SeverityCritical
	case score >= 7:
		return event.SeverityHigh
	case score >= 4:
		return event.SeverityMedium
	case score > 0:
		return event.SeverityLow
	}
	return event.SeverityNegligible
}

// FromWord reads the severity words of advisory publishers ("MODERATE",
// "Important", "unimportant", …); ok is false for words that say nothing, such
// as "not yet assigned".
func FromWord(word string) (sev event.Severity, ok bool) {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "critical":
		return event.SeverityCritical, true
	case "high", "important":
		return event.SeverityHigh, true
	case "medium", "moderate":
		return event.SeverityMedium, true
	case "low":
		return event.SeverityLow, true
	case "negligible", "unimportant", "none":
		return event.SeverityNegligible, true
	}
	return event.SeverityUnknown, false
}
