package detect

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// template is a sentence with facts of the event in it, as {process.path}.
type template string

var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{[^{}]*\}`) })

func parseTemplate(v document.Value) template {
	text := v.String()
	words := facts(event.Event{})
	for _, hole := range placeholder().FindAllString(text, -1) {
		if _, ok := words[hole[1:len(hole)-1]]; !ok {
			v.Fail("%s is no fact of an event: use one of %s", hole, factNames())
		}
	}
	if strings.HasSuffix(text, ".") {
		v.Fail("must not end in a full stop: what Breakwater did about it follows")
	}
	return template(text)
}

func factNames() string {
	var names []string
	for name := range facts(event.Event{}) {
		names = append(names, "{"+name+"}")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (t template) fill(ev event.Event) string {
	words := facts(ev)
	return placeholder().ReplaceAllStringFunc(string(t), func(hole string) string { return words[hole[1:len(hole)-1]] })
}

// facts are the words that sentences may use; what is not known has a word
// for that, so that a sentence stays one.
func facts(ev event.Event) map[string]string {
	c, p := orEmpty(ev.Container), orEmpty(ev.Process)
	x, f, n := orEmpty(ev.Exec), orEmpty(ev.File), orEmpty(ev.Network)
	program := p.Path
	if program == "" {
		program = p.Comm
	}
	return map[string]string{
		"container": code(containerName(c), "a container"),
		"image":     code(c.Image.Name(), "an unknown image"),
		"program":   code(program, "a program"),
		"exec":      code(x.Path, "a program"),
		"file":      code(f.Path, "a file"),
		"peer":      code(peer(n), "somewhere"),
		"call":      code(orEmpty(ev.Privilege).Call, "a system call"),
		"device":    code(orEmpty(ev.Privilege).Device, "a device"),
		"name":      code(orEmpty(ev.DNS).Name, "a name"),
		"port":      strconv.Itoa(n.Port),
		"address":   code(n.Address, "somewhere"),
		"domain":    code(domain(orEmpty(ev.DNS).Name), "a domain"),
		"count":     "many",         // of detections that count, what they let pass
		"within":    "a short time", // and in which time
		"user":      strconv.FormatUint(uint64(p.UID), 10),
	}
}

func containerName(c *event.Container) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID[:min(len(c.ID), 12)]
}

func peer(n *event.Network) string {
	if n.Path != "" {
		return n.Path
	}
	addr, err := netip.ParseAddr(n.Address)
	if err != nil {
		return n.Address
	}
	return netip.AddrPortFrom(addr, uint16(n.Port)).String()
}

// longest is how much of a name from inside a container a sentence repeats.
const longest = 160

// code quotes a word that may have come from an attacker: one line, no control
// or formatting characters, no backquotes, bounded.
func code(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	clean := strings.Map(func(r rune) rune {
		if r == '`' || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if r := []rune(clean); len(r) > longest {
		clean = "…" + string(r[len(r)-longest:]) // the end of a path says more
	}
	return "`" + clean + "`"
}

// Quote is a word in a sentence that may have come from an attacker: in backquotes,
// one line, bounded; otherwise where it is empty.
func Quote(s, otherwise string) string { return code(s, otherwise) }

// done says what Breakwater did, as the end of a sentence. What the agent is
// still to do is told by the incident's responses.
func done(d event.Decision) string {
	switch {
	case d.Outcome == event.Prevented && d.Control == event.ControlNetwork:
		return "; Breakwater refused the connection"
	case d.Outcome == event.Prevented:
		return "; Breakwater refused it"
	case d.Outcome == event.Killed && d.Mechanism == "exec-kill":
		return "; Breakwater killed it before its first instruction"
	case d.Outcome == event.Killed:
		return "; Breakwater killed the process"
	case d.Outcome == event.Detected && d.Mechanism == "syscall-kill":
		return "; Breakwater killed the process, but another one has the same descriptors and may use what it opened"
	case d.Audit && d.Control == event.ControlDetection && d.Policy == "": // the agent only observes
		return "; it was only recorded"
	case d.Audit:
		return "; policy only records this here"
	case d.Effect.Rank() <= event.EffectAlert.Rank():
		return "; it was recorded"
	}
	return ""
}

// more tells how often the same happened without an incident of its own.
func more(times uint64) string {
	if times == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d times more since the last incident of this kind)", times)
}
