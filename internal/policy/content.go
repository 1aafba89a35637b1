package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// contentLimit is what a policy says about one kind of content that may lie in
// an image: malware or secrets.
type contentLimit struct {
	source string
	most   event.Severity // the highest that passes; severityNone by default
	except []contentExcept
}

// contentExcept is one thing that passes: of one rule or name, or at one place.
type contentExcept struct {
	name string       // of the rule or the malware
	path *hostPattern // of files, when it begins with a slash
}

const maxContentExcepts = 500

func parseContentLimit(v document.Value) *contentLimit {
	l := &contentLimit{source: v.Source(), most: severityNone}
	if v.Kind != document.Map {
		v.Word("deny")
		return l
	}
	v.Map(document.Fields{
		"maxSeverity": func(v document.Value) { l.most = severityWord(v) },
		"except": func(v document.Value) {
			v.List(maxContentExcepts, func(v document.Value) { l.except = append(l.except, parseContentExcept(v)) })
		},
	})
	if len(v.Pairs) == 0 {
		v.Fail("is empty: write deny, or give maxSeverity or except")
	}
	return l
}

// contentNames are names of rules and malware, and places in a configuration.
var contentNames = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((env|label|history|command):)?[A-Za-z0-9][A-Za-z0-9._:/-]*$`)
})

func parseContentExcept(v document.Value) contentExcept {
	s := v.String()
	switch {
	case strings.HasPrefix(s, "/"):
		if problem := badHostPattern(s); problem != "" {
			v.Fail("%q %s", s, problem)
		}
		return contentExcept{path: &hostPattern{text: s, parts: split(s)}}
	case s != "" && !contentNames().MatchString(s):
		v.Fail("%q is neither a rule's id, a path that begins with /, nor env:NAME, label:NAME, history:NUMBER, command:entrypoint or command:cmd", s)
	}
	return contentExcept{name: s}
}

// passes says whether a finding of that name, severity and place is accepted.
func (l *contentLimit) passes(name string, s event.Severity, p event.Place) bool {
	if l.most != severityNone && s.Rank() <= l.most.Rank() {
		return true
	}
	return slices.ContainsFunc(l.except, func(x contentExcept) bool {
		switch {
		case x.path != nil:
			return p.Kind == event.PlaceFile && match(x.path.parts, split(p.Path), false)
		case p.Kind != event.PlaceFile && x.name == p.Kind+":"+p.Path:
			return true
		}
		return x.name == name
	})
}

// judgeContent holds malware and secrets against their limits.
func (s *imageSection) judgeContent(j *judgement, p *Policy, facts *ImageFacts) {
	if s.malware != nil && s.looked(j, p, facts, event.LookedMalware, "Scan it where a malware engine answers: `breakwater scan --malware clamd://…`") {
		var over []string
		for i := range facts.Malware {
			if m := &facts.Malware[i]; !s.malware.passes(m.Name, m.Severity, m.Place) {
				over = append(over, fmt.Sprintf("%s (%s, %s) in %s", m.Name, m.Engine, m.Severity, placeText(m.Place)))
			}
		}
		refuseContent(j, p, over, event.Violation{Rule: "image.malware", Source: s.malware.source,
			Remediation: "Build the image again without the file, and find out how it came in"}, "malicious file", "malicious files")
	}
	if s.secrets != nil && s.looked(j, p, facts, event.LookedSecrets, "Scan it with `breakwater scan`") {
		var over []string
		for i := range facts.Secrets {
			if x := &facts.Secrets[i]; !s.secrets.passes(x.Rule, x.Severity, x.Place) {
				over = append(over, fmt.Sprintf("%s (%s, %s) in %s", x.Title, x.Rule, x.Severity, placeText(x.Place)))
			}
		}
		refuseContent(j, p, over, event.Violation{Rule: "image.secrets", Source: s.secrets.source,
			Remediation: "Revoke each one where it was issued, and give it to the container when it starts; a later layer cannot take it out of the image"}, "secret", "secrets")
	}
}

// looked says whether a kind of content was looked for; when it was not, the
// verdict says so and decides as unscanned says.
func (s *imageSection) looked(j *judgement, p *Policy, facts *ImageFacts, kind, remediation string) bool {
	if slices.Contains(facts.Looked, kind) {
		return true
	}
	s.unknown(j, p, "image."+kind, "The image was not looked through for "+kind, remediation)
	return false
}

func refuseContent(j *judgement, p *Policy, over []string, v event.Violation, one, many string) {
	if len(over) == 0 {
		return
	}
	noun := many + " are"
	if len(over) == 1 {
		noun = one + " is"
	}
	v.Message = fmt.Sprintf("%d %s in the image: %s%s", len(over), noun, strings.Join(over[:min(len(over), named)], "; "), more(len(over)))
	j.violated(p, v)
}

// placeText says where something lies, for people.
func placeText(p event.Place) string {
	switch p.Kind {
	case event.PlaceEnv:
		return "the environment variable " + p.Path
	case event.PlaceLabel:
		return "the label " + p.Path
	case event.PlaceHistory:
		return "build step " + p.Path
	case event.PlaceCommand:
		return "the configured " + p.Path
	}
	text := "/" + p.Path
	if p.Line > 0 {
		text += fmt.Sprintf(":%d", p.Line)
	}
	if p.Deleted {
		text += fmt.Sprintf(" (removed later, still in layer %d)", p.LayerIndex)
	}
	return text
}
