package scan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// lookedPrograms is the kind that looks at programs themselves. Evidence alone
// is not looking for malware: the report says so only when clamd or
// intelligence with hashes took part.
const lookedPrograms = "programs"

// knownMalware are the programs that intelligence knows as malicious. Hashes
// are kept with their layer, so that new intelligence needs no new reading.
func (o *Options) knownMalware(hashes []event.FileHash) []event.Malware {
	if o.Hashes == nil {
		return nil
	}
	var out []event.Malware
	for _, h := range hashes {
		if name, source, ok := o.Hashes.Malware(h.SHA256); ok {
			out = append(out, event.Malware{
				Name: cmp.Or(name, "Malicious program"), Engine: "hash", Severity: event.SeverityCritical,
				Reason: "Its SHA-256 is known as malicious: " + source, SHA256: h.SHA256, Place: h.Place,
			})
		}
	}
	return out
}

// engines says who looked for malware.
func (o *Options) engines(rep *report.Report) {
	if o.Malware != nil {
		rep.Engines = append(rep.Engines, o.Malware.Describe())
	}
	if o.Rules != nil {
		rep.Engines = append(rep.Engines, o.Rules.Describe())
	}
	if !o.Look.Programs {
		return
	}
	rep.Engines = append(rep.Engines, "evidence of miners and packers")
	if o.Hashes != nil && o.Hashes.MalwareCount() > 0 {
		rep.Engines = append(rep.Engines, fmt.Sprintf("SHA-256 of malicious files (%d)", o.Hashes.MalwareCount()))
		if o.Malware == nil && o.Rules == nil && !o.MalwareAway && !slices.Contains(rep.Looked, event.LookedMalware) {
			rep.Looked = append(rep.Looked, event.LookedMalware)
		}
	}
}
