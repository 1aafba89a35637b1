package policy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// The labels that name an image's base (OCI image-spec, annotations).
const (
	baseNameLabel   = "org.opencontainers.image.base.name"
	baseDigestLabel = "org.opencontainers.image.base.digest"
)

// maxOrigins bounds signers, digests and base patterns of one policy.
const maxOrigins = 500

// origin is what a policy says about where an image comes from.
type origin struct {
	signedBy, bases []string
	approved        []string // digests of images that need no signature
	signedSource    string
	approvedSource  string
	basesSource     string
}

var (
	signerShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`) })
	digestShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })
)

func (o *origin) fields(fields document.Fields) {
	words := func(v document.Value, shape *regexp.Regexp, what string) (list []string) {
		v.List(maxOrigins, func(v document.Value) {
			s := v.String()
			if s != "" && !shape.MatchString(s) {
				v.Fail("%q is not %s", s, what)
			}
			list = append(list, s)
		})
		if len(list) == 0 && v.Kind == document.List {
			v.Fail("is empty: nothing could pass; remove the field or name one")
		}
		return list
	}
	fields["signedBy"] = func(v document.Value) {
		o.signedSource = v.Source()
		o.signedBy = words(v, signerShape(), "the name of a signer: lower-case letters, digits, dots and hyphens")
	}
	fields["approved"] = func(v document.Value) {
		o.approvedSource = v.Source()
		o.approved = words(v, digestShape(), "a digest: sha256: and 64 hexadecimal digits")
	}
	fields["bases"] = func(v document.Value) {
		o.basesSource = v.Source()
		v.List(maxOrigins, func(v document.Value) {
			s := v.String()
			if _, err := path.Match(s, ""); err != nil {
				v.Fail("%q is no pattern: * stands for anything within one part of a name", s)
			}
			o.bases = append(o.bases, s)
		})
	}
}

// judgeOrigin holds signatures and base against what the policy accepts.
func (s *imageSection) judgeOrigin(j *judgement, p *Policy, facts *ImageFacts) {
	approved := s.origin.approves(facts.Image)
	switch {
	case approved && facts.Integrity != "":
	case approved:
		j.violated(p, event.Violation{Rule: "image.approved", Source: s.origin.approvedSource,
			Message:     "The image's digest is approved, but its layers were not hashed: that they are those the digest names is only the archive's word, and the approval does not count",
			Remediation: "Scan it with `--verify`, or in its registry or an engine"})
	case len(s.origin.signedBy) > 0:
		s.judgeSigned(j, p, facts)
	case len(s.origin.approved) > 0:
		j.violated(p, event.Violation{Rule: "image.approved", Source: s.origin.approvedSource,
			Message:     fmt.Sprintf("The image's digest %s is not approved", facts.Image.Digest),
			Remediation: "Review the image and add its digest to image.approved"})
	}
	if len(s.origin.bases) > 0 {
		s.judgeBase(j, p, facts)
	}
}

// approves says whether the image's content is approved by digest: of its
// configuration, or of a manifest that was proven to hold it.
func (o *origin) approves(i event.Image) bool {
	return slices.Contains(o.approved, i.Digest) || slices.ContainsFunc(i.Pinned, func(digest string) bool { return slices.Contains(o.approved, digest) })
}

func (s *imageSection) judgeSigned(j *judgement, p *Policy, facts *ImageFacts) {
	if !slices.Contains(facts.Looked, event.LookedSignatures) {
		s.unknown(j, p, "image.signedBy", "The image's signatures were not looked for",
			"Scan it in its registry with `breakwater scan`, where the signers are named (trust.yaml)")
		return
	}
	why := "it has no signature"
	for _, one := range facts.Signatures {
		if one.Verified && slices.Contains(s.origin.signedBy, one.Signer) {
			return
		}
		why = strings.TrimSpace(one.Kind + " signature: " + one.Reason)
		if one.Verified {
			why = "it is signed by " + one.Signer
		}
	}
	j.violated(p, event.Violation{Rule: "image.signedBy", Source: s.origin.signedSource,
		Message:     fmt.Sprintf("The image is not signed by %s: %s", strings.Join(s.origin.signedBy, " or "), why),
		Remediation: "Sign the image's digest with the key or identity of this name, or approve its digest in image.approved"})
}

func (s *imageSection) judgeBase(j *judgement, p *Policy, facts *ImageFacts) {
	name, digest := facts.Config.Labels[baseNameLabel], facts.Config.Labels[baseDigestLabel]
	if name == "" {
		s.unknown(j, p, "image.bases", "What the image is built on is not known: it has no label "+baseNameLabel,
			"Build it with the label, which BuildKit and Buildah can set")
		return
	}
	repository, _ := SplitReference(name)
	matches := func(pattern string) bool {
		wanted, digestWanted, byDigest := strings.Cut(pattern, "@")
		if byDigest && digestWanted != digest {
			return false
		}
		ok, _ := path.Match(wanted, repository)
		full, _ := path.Match(wanted, name)
		return ok || full
	}
	if slices.ContainsFunc(s.origin.bases, matches) {
		return
	}
	j.violated(p, event.Violation{Rule: "image.bases", Source: s.origin.basesSource,
		Message:     fmt.Sprintf("The image is built on %s, which is none of %s", name, strings.Join(s.origin.bases, ", ")),
		Remediation: "Build it on one of these base images"})
}

// misconfigurations is what a policy says about checks.
type misconfigurations struct {
	source   string
	most     event.Severity // the highest that passes
	deny     []string       // checks that never pass
	except   []string       // checks that always pass
	comments bool           // ignoring comments in files count
}

func parseMisconfigurations(v document.Value) *misconfigurations {
	m := &misconfigurations{source: v.Source(), most: event.SeverityCritical, comments: true}
	if v.Kind != document.Map {
		m.most = severityWord(v)
		return m
	}
	ids := func(v document.Value) []string {
		list := v.Strings(maxOrigins)
		for i, id := range list {
			if id != "" && !detectionShape().MatchString(id) {
				v.Fail("%q is not the id of a check (item %d)", id, i)
			}
		}
		return list
	}
	v.Map(document.Fields{
		"maxSeverity": func(v document.Value) { m.most = severityWord(v) },
		"deny":        func(v document.Value) { m.deny = ids(v) },
		"except":      func(v document.Value) { m.except = ids(v) },
		"comments":    func(v document.Value) { m.comments = v.Word("allow", "deny") == "allow" },
	})
	if len(v.Pairs) == 0 {
		v.Fail("is empty: give a severity, or maxSeverity, deny or except")
	}
	return m
}

// refuses says whether a misconfiguration does not pass.
func (m *misconfigurations) refuses(x *event.Misconfiguration) bool {
	switch {
	case slices.Contains(m.deny, x.ID):
		return true
	case slices.Contains(m.except, x.ID):
		return false
	}
	return m.most == severityNone || x.Severity.Rank() > m.most.Rank()
}

func (m *misconfigurations) judge(j *judgement, p *Policy, found []event.Misconfiguration) {
	var over []string
	for i := range found {
		if x := &found[i]; m.refuses(x) {
			text := fmt.Sprintf("%s (%s)", x.ID, x.Severity)
			if x.Place.Path != "" {
				text += fmt.Sprintf(" at %s:%d", x.Place.Path, x.Place.Line)
			}
			over = append(over, text)
		}
	}
	if len(over) == 0 {
		return
	}
	noun := "misconfigurations do"
	if len(over) == 1 {
		noun = "misconfiguration does"
	}
	j.violated(p, event.Violation{Rule: "image.misconfigurations", Source: m.source,
		Message:     fmt.Sprintf("%d %s not pass: %s%s", len(over), noun, strings.Join(over[:min(len(over), named)], ", "), more(len(over))),
		Remediation: "Follow each one's way out; docs/checks.md says more about each check"})
}

// Files judges what `breakwater check` found in files by the
// image.misconfigurations of every policy that covers the subject. Ignored are
// those that comments in the files leave out: they count where a policy says so.
func (s *Set) Files(now time.Time, subject Subject, found []event.Misconfiguration, ignored []event.Ignored) event.Verdict {
	has := func(p *Policy) bool { return p.image != nil && p.image.misconfigurations != nil }
	return s.judge(now, subject, has, func(j *judgement, p *Policy) {
		all := found
		if !p.image.misconfigurations.comments {
			all = slices.Clone(found)
			for _, x := range ignored {
				all = append(all, x.Misconfiguration)
			}
		}
		p.image.misconfigurations.judge(j, p, all)
	})
}
