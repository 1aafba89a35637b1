package vuln

import (
	"cmp"
	"strings"
)

// CompareAPK orders package versions as apk does (apk-package(5)):
// number{.number}…{letter}{_suffix{number}}…{~hash}{-rNUMBER}. What does not
// have that form is compared as osv-scalibr does.
func CompareAPK(a, b string) (int, error) {
	if len(a) > maxVersion || len(b) > maxVersion {
		return 0, versionError("Alpine", a+b, "it is too long")
	}
	x, y := apkReader{rest: a}, apkReader{rest: b}
	for {
		ta, tb := x.next(), y.next()
		if ta == apkInvalid || tb == apkInvalid {
			return compareSemantic("Alpine", a, b)
		}
		if ta != tb {
			if !x.whole() || !y.whole() {
				return compareSemantic("Alpine", a, b)
			}
			return compareAPKEnds(&x, &y, ta, tb), nil
		}
		if ta == apkEnd {
			return 0, nil
		}
		if c := compareAPKTokens(&x, &y, ta); c != 0 {
			if !x.whole() || !y.whole() {
				return compareSemantic("Alpine", a, b)
			}
			return c, nil
		}
	}
}

// Tokens, in the order in which a version has them. Of two versions that are
// alike up to here, the one with the later token is older.
const (
	apkFirst = iota
	apkNumber
	apkLetter
	apkSuffix
	apkSuffixNumber
	apkHash
	apkRevision
	apkEnd
	apkInvalid
)

// apkReader reads one token after the other.
type apkReader struct {
	rest  string
	last  int // token before; apkFirst at the beginning
	begun bool
	value string
	order int // of a suffix
}

// apkSuffixes come before the release, or from noSuffix on after it.
var apkSuffixes = [...]string{"alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"}

const noSuffix = 4

func (r *apkReader) next() int {
	r.last = r.token()
	r.begun = true
	return r.last
}

func (r *apkReader) token() int {
	switch {
	case !r.begun:
		return r.number(apkFirst)
	case r.rest == "":
		return apkEnd
	case r.last == apkSuffix && isDigit(r.rest[0]):
		return r.number(apkSuffixNumber)
	}
	c := r.rest[0]
	switch {
	case c == '.' && r.last <= apkNumber:
		r.rest = r.rest[1:]
		return r.number(apkNumber)
	case 'a' <= c && c <= 'z' && r.last <= apkNumber:
		r.value, r.rest = r.rest[:1], r.rest[1:]
		return apkLetter
	case c == '_' && r.last <= apkSuffixNumber:
		return r.suffix()
	case c == '~' && r.last < apkHash:
		n := 1
		for n < len(r.rest) && (isDigit(r.rest[n]) || 'a' <= r.rest[n] && r.rest[n] <= 'f') {
			n++
		}
		r.value, r.rest = r.rest[1:n], r.rest[n:]
		return apkHash
	case strings.HasPrefix(r.rest, "-r") && r.last < apkRevision:
		r.rest = r.rest[2:]
		return r.number(apkRevision)
	}
	return apkInvalid
}

func (r *apkReader) number(token int) int {
	n := digits(r.rest)
	if n == 0 {
		return apkInvalid
	}
	r.value, r.rest = r.rest[:n], r.rest[n:]
	return token
}

func (r *apkReader) suffix() int {
	n := 1
	for n < len(r.rest) && isLetter(r.rest[n]) {
		n++
	}
	for i, s := range apkSuffixes {
		if s == r.rest[1:n] {
			r.order, r.rest = i, r.rest[n:]
			return apkSuffix
		}
	}
	return apkInvalid
}

// whole says whether the rest has the form of a version too.
func (r apkReader) whole() bool {
	for r.last != apkEnd {
		if r.next() == apkInvalid {
			return false
		}
	}
	return true
}

func compareAPKTokens(x, y *apkReader, token int) int {
	switch token {
	case apkSuffix:
		return cmp.Compare(x.order, y.order)
	case apkLetter, apkHash:
		return strings.Compare(x.value, y.value)
	case apkNumber:
		if x.value[0] == '0' || y.value[0] == '0' { // as Gentoo has it: 1.01 is before 1.1
			return strings.Compare(x.value, y.value)
		}
	}
	return compareDigits(x.value, y.value)
}

// compareAPKEnds decides where one version goes on in another way.
func compareAPKEnds(x, y *apkReader, ta, tb int) int {
	if ta == apkSuffix && x.order < noSuffix {
		return -1
	}
	if tb == apkSuffix && y.order < noSuffix {
		return 1
	}
	return cmp.Compare(tb, ta)
}
