package gate

import (
	"strings"
	"testing"
)

func TestParseCall(t *testing.T) {
	for _, c := range []struct {
		method, uri string
		want        treatment
		id          string
	}{
		{"POST", "/v1.41/containers/create?name=x", createCall, ""},
		{"POST", "/containers/create", createCall, ""},
		{"POST", "http://docker/v1.41/containers/create", createCall, ""},
		{"POST", "/containers%2fcreate", createCall, ""},
		{"POST", "/v1.41/containers/abc/start", startCall, "abc"},
		{"POST", "/v1.41/containers/create/start", startCall, "create"},
		{"POST", "/v1.41/containers/abc/restart?t=1", startCall, "abc"},
		{"POST", "/v1.41/containers/abc/exec", execCall, "abc"},
		{"POST", "/v1.41/containers/abc/update", updateCall, "abc"},
		{"POST", "/v1.41/build?t=x", buildCall, ""},
		{"POST", "/v1.41/containers/abc/stop", pass, "abc"},
		{"POST", "/v1.41/images/a/b/c/push", pass, ""},
		{"POST", "/v1.41/images/create?fromImage=x", pass, ""},
		{"DELETE", "/v1.41/containers/abc", pass, "abc"},
		{"PUT", "/v1.41/containers/abc/archive", pass, "abc"},
		{"POST", "/v1.41/build?t=x;networkmode=host", "", ""},
		{"POST", "/v1.41/build?networkmode=host&x=%zz", "", ""},
		{"GET", "/anything//at/../all", pass, ""},
		{"HEAD", "/_ping", pass, ""},
		{"POST", "/v1.41/plugins/a/disable", pass, "a"},
		{"POST", "/v1.41/plugins/a/b/enable", refuse, ""},
		{"POST", "/v1.41/services/create", refuse, ""},
		{"POST", "/v1.41/containers/a/b/start", "", ""},
		{"POST", "/v1.41//containers/create", "", ""},
		{"POST", "/v1.41/containers/create/", "", ""},
		{"POST", "/v1.41/containers/../containers/create", "", ""},
		{"POST", "/vx/containers/create", "", ""},
		{"POST", "/v1.41/v1.41/containers/create", "", ""},
		{"PATCH", "/v1.41/containers/create", "", ""},
		{"post", "/v1.41/containers/create", "", ""},
		{"POST", "/", "", ""},
		{"POST", "", "", ""},
		{"POST", "/containers//start", "", ""},
	} {
		got, err := parseCall(c.method, c.uri)
		if got.treat != c.want || got.id != c.id || (err == nil) != (c.want != "") {
			t.Errorf("%s %s: %q %q %v, want %q %q", c.method, c.uri, got.treat, got.id, err, c.want, c.id)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, old := range map[string]bool{"": false, "1.23": true, "1.24": false, "1.41": false, "0.99": true, "2.0": false, "1.4.1": true, ".": true} {
		if got := (call{version: version}).before(1, 24); got != old {
			t.Errorf("%q is older: %v", version, got)
		}
	}
}

// FuzzParseCall: whatever comes, no panic, and what is not a read and reaches
// the engine's create is never let through.
func FuzzParseCall(f *testing.F) {
	f.Add("POST", "/v1.41/containers/create")
	f.Add("POST", "/containers%2Fcreate?x=%zz")
	f.Add("PUT", "//v1./containers/./x/archive")
	f.Fuzz(func(t *testing.T, method, uri string) {
		c, err := parseCall(method, uri)
		if err != nil || isRead(method) {
			return
		}
		if c.why == "" {
			t.Errorf("%s %s is treated as %s without a reason", method, uri, c.treat)
		}
		path, _, _ := strings.Cut(uri, "?")
		if c.treat == pass && strings.HasSuffix(path, "/containers/create") && !strings.Contains(path, "%") {
			t.Errorf("%s %s is let through", method, uri)
		}
	})
}
