package vuln

import (
	"strings"
)

// CompareDebian orders Debian package versions as the Debian Policy Manual
// §5.6.12 defines: epoch, upstream version, revision; within the parts runs of
// non-digits (~ before the end, letters before other characters) and of digits
// alternate. It accepts what dpkg accepts.
func CompareDebian(a, b string) (int, error) {
	va, err := splitDebian(a)
	if err != nil {
		return 0, err
	}
	vb, err := splitDebian(b)
	if err != nil {
		return 0, err
	}
	if c := compareDigits(va.epoch, vb.epoch); c != 0 {
		return c, nil
	}
	if c := compareDebianPart(va.upstream, vb.upstream); c != 0 {
		return c, nil
	}
	return compareDebianPart(va.revision, vb.revision), nil
}

type debianVersion struct{ epoch, upstream, revision string }

func splitDebian(s string) (debianVersion, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > maxVersion {
		return debianVersion{}, versionError("Debian", s, "empty or too long")
	}
	v := debianVersion{upstream: s}
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		if epoch == "" || strings.Trim(epoch, "0123456789") != "" {
			return v, versionError("Debian", s, "the epoch is not a number")
		}
		v.epoch, v.upstream = epoch, rest
	}
	if i := strings.LastIndexByte(v.upstream, '-'); i >= 0 {
		v.upstream, v.revision = v.upstream[:i], v.upstream[i+1:]
		if v.revision == "" {
			return v, versionError("Debian", s, "the revision is empty")
		}
	}
	if v.upstream == "" || !isDigit(v.upstream[0]) {
		return v, versionError("Debian", s, "the upstream version does not start with a digit")
	}
	if !debianCharacters(v.upstream, ".+-~:") || !debianCharacters(v.revision, ".+~") {
		return v, versionError("Debian", s, "a character is not allowed")
	}
	return v, nil
}

func debianCharacters(s, others string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) && !isLetter(s[i]) && strings.IndexByte(others, s[i]) < 0 {
			return false
		}
	}
	return true
}

func compareDebianPart(a, b string) int {
	for a != "" || b != "" {
		na, nb := nonDigits(a), nonDigits(b)
		if c := compareNonDigits(a[:na], b[:nb]); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
		da, db := digits(a), digits(b)
		if c := compareDigits(a[:da], b[:db]); c != 0 {
			return c
		}
		a, b = a[da:], b[db:]
	}
	return 0
}

func compareNonDigits(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := debianWeight(a, i) - debianWeight(b, i); c != 0 {
			return c
		}
	}
	return 0
}

// debianWeight is the sorting weight of the character at i: a tilde sorts
// before the end of the part, the end before letters, letters before the rest.
func debianWeight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case isLetter(s[i]):
		return int(s[i])
	}
	return int(s[i]) + 256
}

// compareDigits compares decimal numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func digits(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

func nonDigits(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
