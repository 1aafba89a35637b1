package vuln

import (
	"cmp"
	"strings"
)

// CompareRPM orders "[EPOCH:]VERSION[-RELEASE]" as RPM does (rpm-version(7)):
// runs of digits and of letters are compared, everything else only separates,
// digits are newer than letters, a tilde is older than nothing and a caret newer
// than nothing but older than anything else. A missing epoch is 0; a missing
// release decides nothing, as in RPM's dependencies.
func CompareRPM(a, b string) (int, error) {
	va, err := splitRPM(a)
	if err != nil {
		return 0, err
	}
	vb, err := splitRPM(b)
	if err != nil {
		return 0, err
	}
	if c := compareDigits(va.epoch, vb.epoch); c != 0 {
		return c, nil
	}
	if c := compareRPMPart(va.version, vb.version); c != 0 || va.release == "" || vb.release == "" {
		return c, nil
	}
	return compareRPMPart(va.release, vb.release), nil
}

type rpmVersion struct{ epoch, version, release string }

func splitRPM(s string) (v rpmVersion, err error) {
	v.version = strings.TrimSpace(s)
	if len(s) > maxVersion {
		return v, versionError("RPM", s, "it is too long")
	}
	if epoch, rest, ok := strings.Cut(v.version, ":"); ok {
		if digits(epoch) != len(epoch) {
			return v, versionError("RPM", s, "the epoch is not a number")
		}
		v.epoch, v.version = epoch, rest
	}
	if i := strings.LastIndexByte(v.version, '-'); i >= 0 {
		v.version, v.release = v.version[:i], v.version[i+1:]
	}
	if v.version == "" {
		return v, versionError("RPM", s, "it is empty")
	}
	return v, nil
}

// compareRPMPart compares a version or a release.
func compareRPMPart(a, b string) int {
	for {
		a, b = a[separators(a):], b[separators(b):]
		if marked(a, '~') || marked(b, '~') {
			if !marked(b, '~') {
				return -1
			}
			if !marked(a, '~') {
				return 1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if marked(a, '^') || marked(b, '^') {
			switch {
			case a == "":
				return -1
			case b == "", !marked(a, '^'):
				return 1
			case !marked(b, '^'):
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		c, na, nb := compareRuns(a, b)
		if c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
}

func marked(s string, mark byte) bool { return s != "" && s[0] == mark }

// compareRuns compares the runs of digits or letters that two strings begin
// with, and gives their lengths.
func compareRuns(a, b string) (c, na, nb int) {
	if isDigit(a[0]) {
		na, nb = digits(a), digits(b)
		if nb == 0 {
			return 1, na, nb // digits are newer than letters
		}
		return compareDigits(a[:na], b[:nb]), na, nb
	}
	na, nb = letters(a), letters(b)
	if nb == 0 {
		return -1, na, nb
	}
	return strings.Compare(a[:na], b[:nb]), na, nb
}

// separators is how many characters only separate.
func separators(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) && !isLetter(s[i]) && s[i] != '~' && s[i] != '^' {
		i++
	}
	return i
}

func letters(s string) int {
	i := 0
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	return i
}
