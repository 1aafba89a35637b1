package secret

import (
	"bytes"
	"strings"
)

// fillers are texts that stand in values that nobody uses.
var fillers = [...]string{
	"example", "placeholder", "changeme", "change_me", "change-me", "your_", "your-", "yourtoken", "yourkey", "yoursecret", "yourpass",
	"xxxx", "****", "....", "____", "----", "redacted", "dummy", "insert", "replace", "sample", "fixme", "<", "${", "{{", "$(", "%(", "%s",
	"0000000", "1111111", "1234567", "abcdefg", "deadbeef", "notasecret", "not-a-secret", "foobar",
}

// placeholder says that a value stands for another one.
func placeholder(value []byte) bool {
	if bytes.HasPrefix(value, []byte("-----BEGIN")) {
		return false
	}
	lower := strings.ToLower(string(value))
	for _, f := range fillers {
		if strings.Contains(lower, f) {
			return true
		}
	}
	return len(value) > 0 && bytes.Count(value, value[:1]) == len(value)
}

// inLibrary knows folders that distributions and package managers fill with
// what they publish: documentation, headers, translations, libraries' code.
func inLibrary(name string) bool {
	for _, dir := range [...]string{"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/zoneinfo/", "usr/share/perl", "usr/share/icons/", "usr/share/mime/", "usr/share/i18n/",
		"usr/share/licenses/", "usr/share/common-licenses/", "usr/share/bash-completion/", "usr/share/vim/", "usr/share/ca-certificates/", "etc/ssl/certs/", "etc/ca-certificates/", "usr/include/", "usr/lib/perl", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/go", "usr/local/go/",
		"usr/lib/python3.", "proc/", "sys/", "usr/src/linux", "var/lib/dpkg/", "lib/apk/db/"} {
		if strings.HasPrefix(name, dir) && !strings.Contains(name, "-packages/") {
			return true
		}
	}
	return false
}

// isPassage says that a file belongs to the tests or the documentation of a
// library that somebody else published: keys in it are nobody's.
func isPassage(name string) bool {
	i := -1
	for _, dir := range [...]string{"node_modules/", "site-packages/", "dist-packages/", "/gems/", "go/pkg/mod/", "/vendor/"} {
		if at := strings.LastIndex(name, dir); at >= 0 {
			i = max(i, at+len(dir))
		}
	}
	if i < 0 {
		return false
	}
	inside := "/" + strings.ToLower(name[i:])
	for _, part := range [...]string{"/test/", "/tests/", "/testing/", "/__tests__/", "/spec/", "/fixtures/", "/testdata/", "/examples/", "/example/", "/docs/", "/doc/", "/readme", "/changelog", ".md", "/pkg-info", "/metadata"} {
		if strings.Contains(inside, part) {
			return true
		}
	}
	return false
}
