package vuln

import (
	"strings"

	"golang.org/x/mod/semver"
)

// CompareSemver orders versions by Semantic Versioning 2.0.0 §11. A leading
// "v" or "=" is accepted as npm accepts it; missing minor and patch numbers
// count as 0; build metadata does not take part.
func CompareSemver(a, b string) (int, error) {
	va, err := canonicalSemver("semver", a)
	if err != nil {
		return 0, err
	}
	vb, err := canonicalSemver("semver", b)
	if err != nil {
		return 0, err
	}
	return semver.Compare(va, vb), nil
}

// CompareGo orders Go module versions (https://go.dev/ref/mod#versions):
// semantic versions, pseudo-versions as the prereleases that they are, and
// "+incompatible" ignored. Versions of the toolchain and standard library are
// read in both spellings, "1.21.3" and "go1.21.3"; a "go1.22rc1" is the
// prerelease 1.22.0-rc.1, and a vendor's suffix ("go1.22.1-acme", "go1.22.1
// X:arenas") is the release that it was made of, as go/version has it. The
// version "(devel)" has no place in the order.
func CompareGo(a, b string) (int, error) {
	va, err := canonicalGo(a)
	if err != nil {
		return 0, err
	}
	vb, err := canonicalGo(b)
	if err != nil {
		return 0, err
	}
	return semver.Compare(va, vb), nil
}

func canonicalSemver(ecosystem, s string) (string, error) {
	trimmed := strings.TrimPrefix(strings.TrimSpace(s), "=")
	v := "v" + strings.TrimPrefix(strings.TrimSpace(trimmed), "v")
	if len(s) > maxVersion || !semver.IsValid(v) {
		return "", versionError(ecosystem, s, "it does not read MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]")
	}
	return v, nil
}

func canonicalGo(s string) (string, error) {
	toolchain, ok := strings.CutPrefix(s, "go")
	if !ok {
		return canonicalSemver("Go", s)
	}
	toolchain, _, _ = strings.Cut(toolchain, " ")
	toolchain, _, _ = strings.Cut(toolchain, "-")
	for _, kind := range []string{"beta", "rc"} {
		if release, n, ok := strings.Cut(toolchain, kind); ok {
			if strings.Count(release, ".") < 2 {
				release += ".0"
			}
			toolchain = release + "-" + kind + "." + n
		}
	}
	return canonicalSemver("Go", toolchain)
}
