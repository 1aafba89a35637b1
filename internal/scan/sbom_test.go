package scan_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/scan"
)

func TestDocument(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "bom.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"operating-system","name":"debian","version":"12"},
		{"type":"library","name":"curl","purl":"pkg:deb/debian/curl@7.88.1-10?arch=amd64"}]}`)
	k := &known{}
	rep := mustScan(t, scan.Options{Target: "sbom:" + path, Matcher: k, Judge: k})
	if len(rep.Packages) != 1 || rep.Packages[0].Ecosystem != "Debian:12" || len(rep.Findings) != 1 || rep.Verdict.Allowed {
		t.Errorf("got %+v", rep)
	}
	for target, want := range map[string]string{
		write("{}"):                             "is neither CycloneDX, SPDX nor Syft JSON",
		write("\x1b[31m"):                       "is not JSON",
		"/no/where":                             `document "/no/where": no such file`,
		t.TempDir():                             "is a folder",
		write(`{"@graph":[],"x":"` + "\x00\"}"): "is not JSON",
	} {
		if _, err := scan.Image(t.Context(), scan.Options{Target: "sbom:" + target}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", target, err)
		}
	}
}
