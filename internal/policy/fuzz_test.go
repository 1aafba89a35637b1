package policy_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// FuzzParse: whatever the file is, the answer is policies that can be asked,
// or errors inside the file; never a crash.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"baseline.yaml", "strict.yaml"} {
		data, err := fs.ReadFile(content.Policies(), name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	archives, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(archives) == 0 {
		f.Fatalf("no seeds (%v)", err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		policies, err := policy.Parse("f.yaml", data)
		if err != nil {
			checkErrors(t, err)
			return
		}
		set, err := policy.NewSet(1, policies)
		if err != nil {
			t.Fatalf("parsed, but no set: %v", err)
		}
		subject := policy.Subject{Image: event.Image{References: []string{"a/b:c", "d@sha256:e"}}}
		set.Image(now, policy.ImageFacts{Subject: subject, Scanned: true, Judged: true, Findings: []event.Finding{{ID: "CVE-1", Severity: "high"}}})
		set.Start(now, policy.StartFacts{Subject: subject, Privileged: true, Mounts: []policy.Mount{{Source: "/etc"}}})
		set.Run(now, subject)
	})
}

func checkErrors(t *testing.T, err error) {
	t.Helper()
	var list document.Errors
	if !errors.As(err, &list) || len(list) == 0 {
		t.Fatalf("the error is %T: %v", err, err)
	}
	for _, e := range list {
		if e.Line < 1 || e.Column < 1 || e.Message == "" || e.File != "f.yaml" {
			t.Fatalf("an error without its place: %+v", e)
		}
	}
}
