package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format is one way to write a report.
type Format struct {
	Name string
	For  string // who reads it
	// Write is nil for the table, whose look depends on the terminal.
	Write func(io.Writer, *Report) error
}

// Formats is every format, in the order in which help texts show them.
func Formats() []Format {
	return []Format{
		{"table", "people", nil},
		{"html", "people: one file for a browser", HTML},
		{"json", "programs: everything, docs/report-schema.md", JSON},
		{"sarif", "code scanning (SARIF 2.1)", SARIF},
		{"cyclonedx", "bills of materials, with findings and VEX (CycloneDX 1.6)", CycloneDX},
		{"spdx", "bills of materials (SPDX 2.3)", SPDX},
		{"openvex", "whoever decides which findings count (OpenVEX 0.2)", OpenVEX},
		{"junit", "CI servers that show tests", JUnit},
		{"gitlab", "GitLab's container scanning report", GitLab},
	}
}

// FormatNamed finds a format; its error lists what there is.
func FormatNamed(name string) (Format, error) {
	all := Formats()
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	if i := slices.Index(names, name); i >= 0 {
		return all[i], nil
	}
	return Format{}, fmt.Errorf("%q is none of %s", name, strings.Join(names, ", "))
}
