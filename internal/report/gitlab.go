package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// GitLab's security report for container scanning, schema 15.0.7, which every
// GitLab since 15.11 takes.
type (
	gitlabReport struct {
		Version         string                `json:"version"`
		Schema          string                `json:"schema"`
		Scan            gitlabScan            `json:"scan"`
		Vulnerabilities []gitlabVulnerability `json:"vulnerabilities"`
		Remediations    []struct{}            `json:"remediations"`
	}
	gitlabScan struct {
		Analyzer gitlabTool      `json:"analyzer"`
		Scanner  gitlabTool      `json:"scanner"`
		Type     string          `json:"type"`
		Start    string          `json:"start_time"`
		End      string          `json:"end_time"`
		Status   string          `json:"status"`
		Messages []gitlabMessage `json:"messages,omitempty"`
	}
	gitlabTool struct {
		ID      string     `json:"id"`
		Name    string     `json:"name"`
		URL     string     `json:"url"`
		Version string     `json:"version"`
		Vendor  gitlabName `json:"vendor"`
	}
	gitlabName struct {
		Name string `json:"name"`
	}
	gitlabMessage struct {
		Level string `json:"level"`
		Value string `json:"value"`
	}
	gitlabVulnerability struct {
		ID          string             `json:"id"`
		Name        string             `json:"name"`
		Description string             `json:"description,omitempty"`
		Severity    string             `json:"severity"`
		Solution    string             `json:"solution,omitempty"`
		Identifiers []gitlabIdentifier `json:"identifiers"`
		Links       []gitlabLink       `json:"links,omitempty"`
		Location    gitlabLocation     `json:"location"`
	}
	gitlabIdentifier struct {
		Type  string `json:"type"`
		Name  string `json:"name"`
		Value string `json:"value"`
		URL   string `json:"url,omitempty"`
	}
	gitlabLink struct {
		URL string `json:"url"`
	}
	gitlabLocation struct {
		Dependency struct {
			Package gitlabName `json:"package"`
			Version string     `json:"version"`
		} `json:"dependency"`
		OperatingSystem string `json:"operating_system"`
		Image           string `json:"image"`
	}
)

const (
	gitlabVersion = "15.0.7"
	// The schema's bounds, in characters.
	gitlabMaxName        = 255
	gitlabMaxDescription = 20_000 // the schema takes a million; a merge request does not show it
	gitlabMaxSolution    = 7000
	gitlabMaxMessages    = 100
)

// GitLab writes the findings as GitLab's container scanning report. The format
// knows packages only: how much else was found is one of its messages.
func GitLab(w io.Writer, r *Report) error {
	name, version, _ := strings.Cut(r.Tool, " ")
	tool := gitlabTool{cmp.Or(name, "breakwater"), "Breakwater", "https://github.com/breakwater-sec/breakwater", cmp.Or(version, "unknown"), gitlabName{"Breakwater"}}
	at := r.Time.UTC().Format("2006-01-02T15:04:05")
	doc := gitlabReport{
		Version: gitlabVersion, Vulnerabilities: []gitlabVulnerability{}, Remediations: []struct{}{},
		Schema: "https://gitlab.com/gitlab-org/security-products/security-report-schemas/-/raw/v" + gitlabVersion + "/dist/container-scanning-report-format.json",
		Scan:   gitlabScan{tool, tool, "container_scanning", at, at, "success", gitlabMessages(r)},
	}
	system := cmp.Or(joined(":", r.Distro.ID, r.Distro.Version), "unknown")
	for _, f := range byRank(r.Findings) {
		v := gitlabFinding(&f)
		v.Location.OperatingSystem, v.Location.Image = Printable(system), Printable(cmp.Or(r.name(), "image"))
		doc.Vulnerabilities = append(doc.Vulnerabilities, v)
	}
	return indented(w, doc)
}

func gitlabMessages(r *Report) (out []gitlabMessage) {
	for _, k := range r.issues() {
		if n := len(k.issues); n > 0 && k.name != "vulnerabilities" {
			out = append(out, gitlabMessage{"warn", fmt.Sprintf("%s: %d found, which this format cannot hold; see the JSON or SARIF report", k.name, n)})
		}
	}
	for _, g := range r.Gaps {
		if len(out) == gitlabMaxMessages {
			return append(out, gitlabMessage{"warn", "there is more that was not judged; see the JSON report"})
		}
		out = append(out, gitlabMessage{"warn", "not judged: " + Printable(g)})
	}
	return out
}

func gitlabFinding(f *event.Finding) gitlabVulnerability {
	x := findingIssue(f)
	v := gitlabVulnerability{
		ID:   uuid("gitlab", f.ID, f.Package.Name, f.Package.Path),
		Name: cut(cmp.Or(f.Title, f.ID), gitlabMaxName), Description: cut(x.title+". "+f.ID+" "+x.reason+".", gitlabMaxDescription),
		Severity: gitlabSeverity(f.Severity), Solution: cut(strings.ToUpper(x.fix[:1])+x.fix[1:], gitlabMaxSolution),
	}
	v.Location.Dependency.Package.Name, v.Location.Dependency.Version = Printable(f.Package.Name), Printable(f.Package.Version)
	for i, id := range append([]string{f.ID}, f.Aliases...) {
		identifier := gitlabIdentifier{Type: "breakwater", Name: Printable(id), Value: Printable(id)}
		if prefix, _, ok := strings.Cut(id, "-"); ok {
			identifier.Type = strings.ToLower(Printable(prefix))
		}
		if i == 0 {
			identifier.URL = x.url
		}
		v.Identifiers = append(v.Identifiers, identifier)
	}
	if x.url != "" {
		v.Links = []gitlabLink{{x.url}}
	}
	return v
}

func gitlabSeverity(s event.Severity) string {
	switch s {
	case event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow:
		return strings.ToUpper(string(s[:1])) + string(s[1:])
	case event.SeverityNegligible:
		return "Info"
	}
	return "Unknown"
}

// cut is s made printable, at most n characters long.
func cut(s string, n int) string {
	r := []rune(Printable(s))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}
