package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Bounds of what a note says. Whoever may ask the engine chooses labels, names
// and mounts of up to 1 MiB in all, which JSON may make six times as long: a
// note too long for the agent would be a refusal that nobody hears of.
const (
	briefText       = 500      // bytes of a message or a name
	briefLabels     = 16 << 10 // bytes of all labels
	briefViolations = 50
	briefNames      = 32
)

// short cuts a text to what a note may hold of it.
func short(text string) string {
	if len(text) <= briefText {
		return text
	}
	return strings.ToValidUTF8(text[:briefText], "") + "…"
}

func shortList(list []string) []string {
	var out []string
	for _, text := range list[:min(len(list), briefNames)] {
		out = append(out, short(text))
	}
	return out
}

// brief is a ruling that can be told to people and to the agent.
func brief(r ruling) ruling {
	r.what = short(r.what)
	r.verdict = briefVerdict(r.verdict)
	r.container = briefContainer(r.container)
	return r
}

func briefVerdict(v event.Verdict) event.Verdict {
	v.Incomplete = shortList(v.Incomplete)
	if more := len(v.Violations) - briefViolations; more > 0 {
		v.Incomplete = append(v.Incomplete, fmt.Sprintf("%d more rules are violated, or the same ones again.", more))
	}
	v.Violations = slices.Clone(v.Violations[:min(len(v.Violations), briefViolations)])
	for i := range v.Violations {
		x := &v.Violations[i]
		x.Message, x.Remediation = short(x.Message), short(x.Remediation)
	}
	return v
}

func briefContainer(c event.Container) event.Container {
	c.Name, c.Workload = short(c.Name), short(c.Workload)
	c.Image.References = shortList(c.Image.References)
	c.Capabilities = shortList(c.Capabilities)
	labels := map[string]string{}
	room := briefLabels
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		if room -= len(name) + len(c.Labels[name]); room < 0 {
			break
		}
		labels[name] = c.Labels[name]
	}
	c.Labels = labels
	return c
}
