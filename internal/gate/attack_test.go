package gate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What somebody with the engine's socket tries who knows how the gate reads.
func TestAttacksOnTheReading(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	volume := func(options ...string) []string {
		return l.run("--mount", "type=volume,dst=/x,volume-driver=local,volume-opt="+strings.Join(options, ",volume-opt="))
	}
	up := strings.Repeat("../", 12)
	t.Run("a volume's device relative to the engine's folder", func(t *testing.T) {
		for _, device := range []string{up + "etc", "./" + up + "etc"} {
			l.refused(t, volume("type=none", "o=bind", "device="+device), "start.mounts")
		}
	})
	t.Run("an overlay of relative folders", func(t *testing.T) {
		l.refused(t, l.run("--mount", `type=volume,dst=/x,volume-driver=local,volume-opt=type=overlay,volume-opt=device=overlay,"volume-opt=o=lowerdir=`+up+`etc"`), "start.mounts")
	})
	t.Run("a volume that reads no host folder", func(t *testing.T) {
		l.engine.MustRun(t, volume("type=tmpfs", "device=tmpfs", "o=size=1m")...)
	})
	t.Run("a seccomp profile that allows everything", func(t *testing.T) {
		profile := filepath.Join(t.TempDir(), "all.json")
		if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		l.refused(t, l.run("--security-opt=seccomp="+profile), "require.seccomp")
	})
}

// An engine could take a build's parameters from a form in the body before
// those of the URI.
func TestBuildParametersInABody(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	context := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "FROM %s\nRUN grep -c . /proc/net/dev\n", l.busybox)
	}))
	defer context.Close()
	code, said := l.send(t, "POST", "/v1.41/build?networkmode=host&remote="+context.URL, "application/x-tar", strings.NewReader(""))
	if code != 403 {
		t.Fatalf("plainly: %d %s", code, said)
	}
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded":   "networkmode=host&remote=" + context.URL,
		"Application/X-WWW-Form-Urlencoded; ": "networkmode=host&remote=" + context.URL,
		"multipart/form-data; boundary=b": "--b\r\nContent-Disposition: form-data; name=\"networkmode\"\r\n\r\nhost\r\n" +
			"--b\r\nContent-Disposition: form-data; name=\"remote\"\r\n\r\n" + context.URL + "\r\n--b--\r\n",
	} {
		code, said := l.send(t, "POST", "/v1.41/build", kind, strings.NewReader(body))
		if code != 403 {
			t.Errorf("%s: %d %s", kind, code, said)
		}
	}
}
