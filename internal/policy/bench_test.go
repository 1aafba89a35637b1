package policy_test

import (
	"fmt"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

func BenchmarkVerdict(b *testing.B) {
	baseline, strict := shipped(b, "baseline.yaml"), shipped(b, "strict.yaml")
	subject := policy.Subject{Image: event.Image{Digest: "sha256:aa", References: []string{"registry.acme.example/payments/api:1"}}}
	start := policy.StartFacts{Subject: subject, Mounts: []policy.Mount{{Source: "/srv", Target: "/srv", Type: "bind"}}, AddCapabilities: []string{"CHOWN"}}
	image := policy.ImageFacts{Subject: subject, Scanned: true, Judged: true}
	for i := range 500 {
		image.Findings = append(image.Findings, event.Finding{ID: fmt.Sprintf("CVE-2026-%d", i), Severity: event.SeverityMedium, Package: event.Package{Name: "p", Version: "1"}})
	}
	for name, ask := range map[string]func(*policy.Set){
		"start":                 func(s *policy.Set) { s.Start(now, start) },
		"image of 500 findings": func(s *policy.Set) { s.Image(now, image) },
		"run":                   func(s *policy.Set) { s.Run(now, subject) },
	} {
		for kind, set := range map[string]*policy.Set{"baseline": baseline, "strict": strict} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					ask(set)
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(head + "scope: image.repository == \"a\"\nrun: {exec: {allow: [/bin/sh]}}\n")
	for b.Loop() {
		if _, err := policy.Parse("p.yaml", text); err != nil {
			b.Fatal(err)
		}
	}
}
