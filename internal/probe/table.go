package probe

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Width is the narrowest terminal that WriteTable's lines fit on, in columns.
const Width = 80

const (
	controlColumn  = 15
	strengthColumn = 32
	indent         = "    "
)

// WriteTable writes a host's capabilities for people: a line per control with
// what this host does, the evidence under it, and how to get more where there
// is more to get. No line is longer than Width, but for a word that is.
func WriteTable(w io.Writer, d event.Doctor) error {
	var b strings.Builder
	rows, problem := split(d.Capabilities)
	tier := tierWords(d)
	if problem != "" {
		tier = "not probed"
	}
	fmt.Fprintf(&b, "%s: kernel %s, cgroup %s, %s\n", d.Host, d.Kernel, orNone(d.Hierarchy), tier)
	for _, e := range d.Engines {
		wrap(&b, "", indent, engineLine(e))
	}
	for _, n := range d.Notes {
		wrap(&b, "", indent, "note: "+n)
	}
	fmt.Fprintf(&b, "\n%-*s %-*s %s\n", controlColumn, "CONTROL", strengthColumn, "THIS HOST CAN", "BY")
	if problem != "" {
		wrap(&b, "", indent, "every control but start: "+problem)
	}
	for _, c := range rows {
		writeRow(&b, c)
	}
	if fixes := collectFixes(d.Capabilities); len(fixes) > 0 {
		b.WriteString("\nTo get more:\n")
		for _, f := range fixes {
			wrap(&b, "  ", indent, strings.Join(f.controls, ", ")+": "+f.fix)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// split takes the rows apart that all say the same: that there was no probing
// at all. Such a host gets one line for them.
func split(all []event.Capability) (rows []event.Capability, problem string) {
	for _, c := range all {
		if c.Control == event.ControlStart {
			rows = append(rows, c)
			continue
		}
		if !c.Inconclusive || problem != "" && c.Why != problem {
			return all, ""
		}
		problem = c.Why
	}
	return rows, problem
}

func writeRow(b *strings.Builder, c event.Capability) {
	strength := string(c.Strength)
	if c.Inconclusive {
		strength += " (inconclusive)"
	}
	line := fmt.Sprintf("%-*s %-*s %s", controlColumn, c.Control, strengthColumn, strength, c.Mechanism)
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	why := c.Title + ": " + c.Why
	if c.Unused && c.Strength != event.StrengthNone {
		why += " (no policy field uses it yet)"
	}
	wrap(b, indent, indent, why)
}

type fix struct {
	fix      string
	controls []string
}

// collectFixes names each way out once, with the controls that it helps.
func collectFixes(rows []event.Capability) []fix {
	var fixes []fix
	at := map[string]int{}
	for _, c := range rows {
		if c.Fix == "" {
			continue
		}
		i, ok := at[c.Fix]
		if !ok {
			i = len(fixes)
			at[c.Fix] = i
			fixes = append(fixes, fix{fix: c.Fix})
		}
		fixes[i].controls = append(fixes[i].controls, string(c.Control))
	}
	return fixes
}

func tierWords(d event.Doctor) string {
	switch {
	case d.Tier == 1 && d.Hook == "fmod_ret":
		return "tier 1 (the kernel's security functions are asked)"
	case d.Tier == 1:
		return "tier 1 (BPF LSM acts)"
	case d.Tier == 2:
		return "tier 2 (BPF without LSM)"
	}
	return "tier 0 (no BPF program acts)"
}

func engineLine(e event.Engine) string {
	line := strings.TrimRight(e.Name+" "+e.Version, " ") + " at " + e.Socket
	if e.Gate != "" {
		line += ", gate " + e.Gate
	}
	if e.Error != "" {
		line += ": " + e.Error
	}
	return line
}

func orNone(s string) string {
	if s == "" {
		return "not mounted"
	}
	return s
}

// wrap writes text in lines of at most Width columns, the first begun by
// first, the others by rest. Control characters of foreign text (an engine's
// words) become spaces.
func wrap(b *strings.Builder, first, rest, text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	line := first
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > Width {
			b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	b.WriteString(line + "\n")
}
