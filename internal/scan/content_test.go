package scan_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// hashes is intelligence that knows one program.
type hashes struct{ sha256 string }

func (h hashes) Malware(sum string) (name, source string, ok bool) {
	return "Mirai", "list/test", sum == h.sha256
}
func (h hashes) MalwareCount() int { return 1 }

// TestProgramsAreHeldAgainstIntelligence: what is kept of a layer is its hashes,
// so that intelligence that came later finds them.
func TestProgramsAreHeldAgainstIntelligence(t *testing.T) {
	cache, err := scan.OpenCache(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	bad := "#!/bin/sh\necho I am known\n"
	sum := sha256.Sum256([]byte(bad))
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.Program("bin/bad", []byte(bad)), imagetest.Program("bin/good", []byte("#!/bin/sh\n")))}}
	target := "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCIGzip))
	look := scan.Look{Programs: true}
	rep := mustScan(t, scan.Options{Target: target, Look: look, Cache: cache})
	if len(rep.Malware) != 0 || slices.Contains(rep.Looked, "malware") || len(rep.Engines) != 1 {
		t.Errorf("without intelligence: found %+v, looked %q by %q", rep.Malware, rep.Looked, rep.Engines)
	}
	rep = mustScan(t, scan.Options{Target: target, Look: look, Cache: cache, Hashes: hashes{hex.EncodeToString(sum[:])}})
	if len(rep.Malware) != 1 || rep.Malware[0].Name != "Mirai" || rep.Malware[0].Engine != "hash" || rep.Malware[0].Place.Path != "bin/bad" || !strings.Contains(rep.Malware[0].Reason, "list/test") {
		t.Errorf("found %+v", rep.Malware)
	}
	if !slices.Contains(rep.Looked, "malware") || len(rep.Engines) != 2 {
		t.Errorf("looked %q by %q", rep.Looked, rep.Engines)
	}
}

// TestLicences: each package has one expression, from itself, from Debian's
// copyright file or from the file beside it; other files stand by themselves.
func TestLicences(t *testing.T) {
	isc := "Copyright (c) 2020 A\n\nPermission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.\n\nTHE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.\n"
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t,
		imagetest.File("etc/os-release", osRelease), imagetest.File("var/lib/dpkg/status", status2),
		imagetest.File("usr/share/doc/curl/copyright", "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: curl\n\nFiles: lib/x\nLicense: Expat\n"),
		imagetest.File("app/node_modules/lodash/package.json", lodash), imagetest.File("app/node_modules/lodash/LICENSE", isc),
		imagetest.File("app/node_modules/mocha/package.json", `{"name":"mocha","version":"6.2.0","license":{"type":"MIT License"}}`),
		imagetest.File("opt/tool/LICENSE", isc),
	)}}
	rep := mustScan(t, scan.Options{Target: archive(t, i.Archive(t, imagetest.Old)), Look: scan.Look{Licenses: true}})
	got := map[string]string{}
	for _, p := range rep.Packages {
		got[p.Name] = strings.Join(p.Licenses, "|")
	}
	for name, want := range map[string]string{"curl": "curl AND MIT", "libc6": "", "lodash": "ISC", "mocha": "MIT"} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if len(rep.Licenses) != 1 || rep.Licenses[0].Expression != "ISC" || rep.Licenses[0].Place.Path != "opt/tool/LICENSE" {
		t.Errorf("files %+v", rep.Licenses)
	}
	if !slices.Contains(rep.Looked, "licenses") {
		t.Errorf("looked %q", rep.Looked)
	}
}
