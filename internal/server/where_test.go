package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// TestWhereDoesItRun asks by page, API and search, as a person would on the
// morning of an advisory.
func TestWhereDoesItRun(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	harbour(t, s.Server)
	c := admin(t, s)
	var a store.Answer
	if status, text := c.call("GET", "/api/v1/where?kind=vulnerability&name=cve-2024-3094", "", &a); status != 200 || a.Images != 1 || a.Containers != 1 || a.Hosts != 1 || a.Items[0].Running[0].Name != "web-1" {
		t.Errorf("%d %s", status, text)
	}
	for path, want := range map[string]string{
		"/where?name=CVE-2024-3094":                           "of them runs</strong> as 1 container on 1 host",
		"/where?kind=package&name=liblzma5&versions=%3C5.6.1": "web-1",
		"/where?kind=package&name=liblzma5&versions=%3C1":     "No known image holds it",
		"/where?kind=secret":                                  "root/.aws/credentials",
		"/where?kind=package&name=x&versions=%3C":             "use bounds as",
		"/where": "Give the id of a vulnerability",
		"/where?kind=vulnerability&name=%3Cscript%3Ealert(1)//x": "&lt;script&gt;",
	} {
		_, text := c.call("GET", path, "", nil)
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	for path, want := range map[string]int{"/where?kind=riddle&name=x": 400, "/where?offset=-1": 400, "/api/v1/where?kind=riddle": 422, "/api/v1/where?kind=package": 400} {
		if status, text := c.call("GET", path, "", nil); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	res := c.request("GET", "/search?q=CVE-2024-3094", nil)
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/where?") {
		t.Errorf("search: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
}
