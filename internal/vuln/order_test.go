package vuln_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/testenv"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// ascending lists versions of an ecosystem, the oldest first; a line holds
// versions that are equal, separated by " = ".
var ascending = map[string]struct {
	source string
	lines  string
}{
	"Debian": {"Debian Policy Manual §5.6.12: epochs, tildes, letters before other characters, numeric runs", `
0~~
0~~a
0~
0
1.0~beta1~svn1245
1.0~beta1
1.0 = 1.0-0 = 1.0-00
1.0-0.1
1.0-1~bpo12+1
1.0-1
1.0-1+b1
1.0-1+deb12u1
1.0-1+deb12u2
1.0-1+deb12u10
1.0a
1.0+dfsg
1.0.1
1.2
1.10
2.36-9+deb12u3
2.36-9+deb12u10
20230101
99999999999999999999999999999999999999
1:0.1
1:0.1-2
01:2 = 1:2
2:0`},
	"npm": {"Semantic Versioning 2.0.0 §11, and its examples", `
0.0.0-0
0.0.0
1.0.0-alpha
1.0.0-alpha.1
1.0.0-alpha.beta
1.0.0-beta
1.0.0-beta.2
1.0.0-beta.11
1.0.0-rc.1
1.0.0 = v1.0.0 = =1.0.0 = 1.0.0+build.5
1.0.1
1.2.0
1.10.0
2.0.0
2.1.0
2.1.1`},
	"Go": {"go.dev/ref/mod#versions: pseudo-versions and +incompatible; go.dev/doc/toolchain#version: toolchain names", `
v0.0.0-20190101000000-abcdefabcdef
v0.0.0-20230101000000-abcdefabcdef
v0.0.0
v1.2.3-pre
v1.2.3-pre.0.20191109021931-daa7c04131f5
v1.2.3 = 1.2.3
v1.2.4-0.20191109021931-daa7c04131f5
v1.2.4
1.21.0-0
1.21.0-rc.2 = go1.21rc2
1.21.0-rc.3 = go1.21rc3
1.21.0 = go1.21.0 = go1.21 = go1.21.0-acme = go1.21.0 X:arenas
1.21.3 = go1.21.3
1.22.0-rc.1 = go1.22rc1
v2.0.0+incompatible = v2.0.0
v2.0.1+incompatible`},
	"PyPI": {"PEP 440, summary of permitted suffixes and relative ordering", `
1.0.dev456
1.0a1
1.0a2.dev456
1.0a2
1.0b1
1.0rc1
1.0 = 1.0.0 = v1.0
1.0.post456
1.1.dev1
1!0.1`},
	"Alpine": {"apk-package(5) and APKBUILD(5): suffixes before and after the release, letters, -r", `
1.0_alpha
1.0_alpha2
1.0_beta
1.0_pre
1.0_rc
1.0_rc1
1.0
1.0-r1
1.0-r2
1.0-r10
1.0_cvs
1.0_svn
1.0_git20200101
1.0_git20210101
1.0_p1
1.0_p1-r1
1.0a
1.0b
1.1
1.1.1w-r1
1.2
1.10
20200101`},
	"AlmaLinux": {"rpm's documentation of version comparison: epoch, tilde before, caret after, letters before digits", `
1.0~rc1-1
1.0~rc2-1
1.0-0.1.rc1.el9
1.0-1
1.0-1.el9
1.0-1.el9_3
1.0-1.el9_3.1
1.0-1.el9_10
1.0-2 = 0:1.0-2 = 1.0-02
1.0-10
1.0^git1-1
1.0^git2-1
1.0a-1 = 1.0.a-1
1.0.1-1 = 1.0.01-1
1.1-1
1.10-1
1:0.1-1
1:0.1-1.module+el8.9.0+1+1
2:0-1`},
	"Maven": {"Maven's POM reference, version order specification, and its examples", `
1-alpha = 1.0-alpha
1-alpha-1 = 1-a1 = 1alpha1
1-alpha2
1-alpha10
1-beta
1-milestone
1-rc = 1-cr
1-SNAPSHOT
1 = 1.0 = 1.0.0 = 1-ga = 1-final = 1-release
1-sp
1-foo2
1-foo10
1-1
1.1
1.1.1
1.2
1.10
2.0.0.Beta1
2.0.0.Final = 2.0
2.0.1`},
	"RubyGems": {"Gem::Version: a letter makes a prerelease", `
0.9
1.0.a
1.0.a.2
1.0.b1
1.0.rc1
1.0 = 1 = 1.0.0
1.0.1
1.2
1.10
2.2.3
2.2.3.1`},
	"NuGet": {"NuGet, package versioning: normalised numbers, labels in the order of ASCII without case, metadata ignored", `
1.0.1-aaa
1.0.1-alpha10
1.0.1-alpha2
1.0.1-beta = 1.0.1-BETA
1.0.1-open
1.0.1-rc.2
1.0.1-rc.10
1.0.1-zzz
1.0.1 = 1.0.1.0 = 1.0.1+meta
1.0.1.1
1.0.2
1.10`},
	"Packagist": {"PHP's version_compare: dev, alpha, beta, RC, the release, patches", `
1.0-dev
1.0-alpha1
1.0-alpha2
1.0-beta1
1.0-RC1
1.0
1.0.1
1.2
1.10`},
	"crates.io": {"Semantic Versioning 2.0.0 §11", `
1.0.0-alpha
1.0.0-alpha.1
1.0.0
1.0.1`},
	"Pub": {"pub.dev, versioning: semantic versions, builds after the release", `
1.0.0-dev.1
1.0.0-dev.10
1.0.0
1.0.0+1
1.0.0+2
1.0.1`},
	"Hackage": {"Haskell's package versioning policy: lists of numbers", `
1.0
1.0.0
1.0.1
1.2
1.10`},
	"CRAN": {"R's package_version: lists of numbers, dashes as dots", `
0.9-1
1.0
1.0-1 = 1.0.1
1.0-2
1.2
1.10`},
	"Bitnami": {"Semantic Versioning 2.0.0 §11; the number after the dash is Bitnami's own build", `
1.0.0
1.0.1
1.2.0
1.10.0`},
}

func TestOrders(t *testing.T) {
	for ecosystem, c := range ascending {
		order, ok := vuln.OrderOf(ecosystem + ":1")
		if !ok {
			t.Fatalf("%s has no order", ecosystem)
		}
		lines := strings.Split(strings.TrimSpace(c.lines), "\n")
		for i, low := range lines {
			for j, high := range lines {
				for _, a := range strings.Split(low, " = ") {
					for _, b := range strings.Split(high, " = ") {
						if got, err := order(a, b); err != nil || sign(got) != sign(i-j) {
							t.Errorf("%s: compare(%q, %q) = %d, %v; want %d by %s", ecosystem, a, b, got, err, sign(i-j), c.source)
						}
					}
				}
			}
		}
	}
}

func TestNoVersions(t *testing.T) {
	for ecosystem, versions := range map[string][]string{
		"Debian": {"", "abc", "1:", ":1", "x:1", "1.0-", "1 0", "1.0_1", "1.0-1ü", strings.Repeat("1", 2000)},
		"npm":    {"", "latest", "1.x", "1.0.0.0", "^1.0.0", "git+https://x"},
		"Go":     {"", "(devel)", "devel go1.22-abc", "go", "go1.x"},
		"PyPI":   {""},
	} {
		order, _ := vuln.OrderOf(ecosystem)
		for _, v := range versions {
			if c, err := order(v, "1.0"); err == nil {
				t.Errorf("%s: %q is compared: %d", ecosystem, v, c)
			} else if len(err.Error()) > 300 {
				t.Errorf("%s: the error is %d bytes long", ecosystem, len(err.Error()))
			}
		}
	}
	if _, ok := vuln.OrderOf("No such"); ok {
		t.Error("an unknown ecosystem has an order")
	}
}

// TestDebianAgreesWithDpkg compares random versions with dpkg's own judgement.
func TestDebianAgreesWithDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		testenv.Missing(t, "needs dpkg: %v", err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		a, b := randomDebian(random), randomDebian(random)
		got, err := vuln.CompareDebian(a, b)
		if err != nil {
			t.Fatalf("%s, %s: %v", a, b, err)
		}
		relation := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[sign(got)]
		if err := exec.Command(dpkg, "--compare-versions", a, relation, b).Run(); err != nil {
			t.Errorf("%s %s %s: dpkg says no", a, relation, b)
		}
	}
}

// TestRPMAgreesWithRPM compares random versions with RPM's own judgement.
func TestRPMAgreesWithRPM(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		testenv.Missing(t, "needs rpm: %v", err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	version := func(release bool) string {
		var s strings.Builder
		if random.IntN(4) == 0 {
			fmt.Fprintf(&s, "%d:", random.IntN(2))
		}
		s.WriteString("1")
		for range random.IntN(6) {
			s.WriteByte("0129.~^+_aZz"[random.IntN(12)])
		}
		if release {
			fmt.Fprintf(&s, "-%d%c%d", random.IntN(3), ".~^_a"[random.IntN(5)], random.IntN(3))
		}
		return s.String()
	}
	var script strings.Builder
	var pairs [][2]string
	for i := range 2000 {
		release := i%2 == 0
		pairs = append(pairs, [2]string{version(release), version(release)})
		fmt.Fprintf(&script, "print(rpm.vercmp(%q, %q), ' ') ", pairs[len(pairs)-1][0], pairs[len(pairs)-1][1])
	}
	out, err := exec.CommandContext(t.Context(), rpm, "--eval", "%{lua: "+script.String()+"}").Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Fields(string(out))
	if len(answers) != len(pairs) {
		t.Fatalf("rpm gave %d answers for %d pairs", len(answers), len(pairs))
	}
	for i, p := range pairs {
		got, err := vuln.CompareRPM(p[0], p[1])
		if err != nil || fmt.Sprint(sign(got)) != answers[i] {
			t.Errorf("compare(%q, %q) = %d, %v; rpm says %s", p[0], p[1], got, err, answers[i])
		}
	}
}

func randomDebian(r *rand.Rand) string {
	part := func(alphabet string) string {
		var s strings.Builder
		for range r.IntN(6) {
			s.WriteByte(alphabet[r.IntN(len(alphabet))])
		}
		return s.String()
	}
	v := fmt.Sprint(r.IntN(3)) + part("0129.~+aZz-")
	v = strings.TrimRight(v, "-")
	if r.IntN(4) == 0 {
		v = fmt.Sprint(r.IntN(2)) + ":" + v
	}
	return v
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// FuzzOrders: no version makes an order panic, and orders are consistent: a
// version equals itself, and swapping turns the answer round.
func FuzzOrders(f *testing.F) {
	for ecosystem, c := range ascending {
		lines := strings.Split(strings.TrimSpace(c.lines), "\n")
		f.Add(ecosystem, lines[0], lines[len(lines)-1])
	}
	f.Add("Go", "go1.21rc", "(devel)")
	f.Add("Debian", "1:-1", "-")
	f.Add("RubyGems", "1.a", "")
	f.Fuzz(func(t *testing.T, ecosystem, a, b string) {
		order, ok := vuln.OrderOf(ecosystem)
		if !ok {
			return
		}
		ab, err := order(a, b)
		ba, err2 := order(b, a)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("compare(%q, %q): %v, the other way %v", a, b, err, err2)
		}
		base, _, _ := strings.Cut(ecosystem, ":")
		ours := base == "Debian" || base == "Go" || base == "npm" || base == "AlmaLinux"
		if err == nil && ours && sign(ab) != -sign(ba) {
			t.Fatalf("compare(%q, %q) = %d, the other way %d", a, b, ab, ba)
		}
		if self, err := order(a, a); err == nil && self != 0 {
			t.Fatalf("%q is not itself: %d", a, self)
		}
	})
}
