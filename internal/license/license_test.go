package license_test

import (
	"strings"
	"testing"

	"github.com/google/licensecheck"

	"github.com/breakwater-sec/breakwater/internal/license"
)

func TestNormalise(t *testing.T) {
	for stated, want := range map[string]string{
		"MIT": "MIT", "mit": "MIT", "MIT License": "MIT", "The MIT License": "MIT", "Expat": "MIT",
		"License :: OSI Approved :: MIT License": "MIT", "OSI Approved :: Apache Software License": "Apache-2.0",
		"Apache License, Version 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0", "BSD-3-clause": "BSD-3-Clause", "New BSD License": "BSD-3-Clause", "BSD": "LicenseRef-BSD",
		"GPL-2+": "GPL-2.0-or-later", "GPLv3": "GPL-3.0-only", "LGPL-2.1+": "LGPL-2.1-or-later", "GPL": "GPL-1.0-or-later", "GPL (>= 2)": "GPL-2.0-or-later",
		"MIT OR Apache-2.0": "MIT OR Apache-2.0", "MIT/Apache-2.0": "MIT OR Apache-2.0", "(MIT or apache-2.0)": "MIT OR Apache-2.0", "MIT, BSD-2-Clause": "MIT AND BSD-2-Clause",
		"GPL-2+ and (Expat or ISC)":                 "GPL-2.0-or-later AND (MIT OR ISC)",
		"GPL-2.0-only with Classpath-exception-2.0": "GPL-2.0-only WITH Classpath-exception-2.0",
		"Artistic or GPL-1+":                        "GPL-1.0-or-later OR Artistic-1.0-Perl", "MIT and Perl": "MIT AND (GPL-1.0-or-later OR Artistic-1.0-Perl)",
		"public-domain": "LicenseRef-public-domain", "UNLICENSED": "LicenseRef-proprietary", "SEE LICENSE IN x.md": "LicenseRef-SEE-LICENSE-IN-x.md",
		"LicenseRef-Acme": "LicenseRef-Acme", "Blessed": "LicenseRef-Blessed", "Some-New-1.0": "Some-New-1.0", "": "", "  ": "", "«»": "", strings.Repeat("x", 5000): "",
		"https://www.apache.org/licenses/LICENSE-2.0": "Apache-2.0",
	} {
		if got := license.Normalise(stated); got != want {
			t.Errorf("%.60q is %q, want %q", stated, got, want)
		}
	}
	if got := license.All([]string{"MIT", "BSD-3-Clause OR ISC", "MIT License"}); got != "MIT AND (BSD-3-Clause OR ISC)" {
		t.Errorf("got %q", got)
	}
}

func TestHolds(t *testing.T) {
	for text, want := range map[string]bool{
		"MIT": true, "GPL-2.0-only": false, "MIT OR GPL-2.0-only": true, "MIT AND GPL-2.0-only": false, "(MIT AND ISC) OR GPL-2.0-only": true,
		"MIT AND (GPL-2.0-only OR ISC)": true, "MIT AND GPL-2.0-only OR GPL-3.0-only": false, "mit": false, "A WITH B": false,
	} {
		e, err := license.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Holds(func(id string) bool { return id == "MIT" || id == "ISC" }); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for text, want := range map[string]string{
		"": "ends too early", "MIT AND": "ends too early", "AND MIT": "stands where a licence should", "(MIT": "not closed", "MIT ISC": "does not belong there",
		"M/T": "is not an id", strings.Repeat("(", 100) + "MIT": "nested deeper", strings.Repeat("MIT AND ", 1000) + "MIT": "longer than", "A WITH": "ends too early",
	} {
		if _, err := license.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestCopyright(t *testing.T) {
	const dep5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n\nFiles: *\nCopyright: 2020 A\nLicense: GPL-2+\n\nFiles: lib/*\nCopyright: B\nLicense: Expat or BSD-3-clause\n\nFiles: debian/*\nLicense: GPL-3\n\nLicense: GPL-2+\n On Debian systems see /usr/share/common-licenses/GPL-2\n"
	for text, want := range map[string]string{
		dep5: "GPL-2.0-or-later AND (MIT OR BSD-3-Clause)",
		"This package is free.\nSee `/usr/share/common-licenses/GPL-2' and /usr/share/common-licenses/LGPL-2.1.": "GPL-2.0-only AND LGPL-2.1-only",
		"Format: x\n\nFiles: *\nLicense: GPL-3+ with OpenSSL exception\n":                                        "GPL-3.0-or-later",
		"nothing": "",
	} {
		if got := license.Copyright([]byte(text)); got != want {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
}

func TestFiles(t *testing.T) {
	var f license.Files
	for path, want := range map[string]bool{
		"app/LICENSE": true, "app/LICENSE.md": true, "app/LICENSE-MIT": true, "app/COPYING": true, "usr/share/doc/curl/copyright": true, "a/license.txt": true,
		"app/license.go": false, "app/licenses.json": false, "app/LICENSEE": false, "app/readme": false, "app/LICENSE.js": false, "srv/copyright": false,
	} {
		if got := f.Wants(path, 1000, false); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	text := ""
	for _, l := range licensecheck.BuiltinLicenses() {
		if l.ID == "ISC" && text == "" {
			text = "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.\n\nTHE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE."
		}
	}
	c, err := f.Examine("app/LICENSE", []byte("Copyright (c) 2020, Somebody\n\n"+text))
	if err != nil || len(c.Licenses) != 1 || c.Licenses[0].Expression != "ISC" || c.Licenses[0].Confidence < 0.9 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := f.Examine("app/LICENSE", []byte("All rights reserved. Ask us.")); err != nil || len(c.Licenses) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzNormalise: what comes out is an expression that says the same again.
func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"MIT", "MIT/Apache-2.0", "(GPL-2+ or Perl) and BSD", "GPL-2.0 WITH x", "License :: OSI Approved :: MIT License", "a, b; c & d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := license.Normalise(s)
		if e == "" {
			return
		}
		if _, err := license.Parse(e); err != nil && len(e) <= 2000 {
			t.Fatalf("%q became %q: %v", s, e, err)
		}
	})
}

// FuzzCopyright: never a crash.
func FuzzCopyright(f *testing.F) {
	f.Add([]byte("Format: x\n\nFiles: *\nLicense: GPL-3+\n"))
	f.Fuzz(func(_ *testing.T, text []byte) { license.Copyright(text) })
}

func BenchmarkFirst(b *testing.B) {
	for b.Loop() {
		_, _ = license.Files{}.Examine("LICENSE", []byte("Permission to use, copy"))
	}
}
