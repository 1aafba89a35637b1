package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const console = "booting\r\n" +
	mark + "begin ./a\r\n=== RUN   TestX\r\n--- PASS: TestX (0.01s)\r\n    --- PASS: TestX/sub (0.01s)\r\n--- SKIP: TestY (0.00s)\r\nPASS\r\n" + mark + "end ./a 0\r\n"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		console, guest, suite string // wanted in the errors; "" is none
	}{
		"passed":           {console, "", ""},
		"failed":           {mark + "begin ./a\n--- PASS: TestX (0s)\n--- FAIL: TestY (0s)\n" + mark + "end ./a 1\n", "", "./a: failed: TestY"},
		"status only":      {mark + "begin ./a\n--- PASS: TestX (0s)\n" + mark + "end ./a 2\n", "", "status 2"},
		"no number":        {mark + "begin ./a\n--- PASS: TestX (0s)\n" + mark + "end ./a\n", "", "status -1"},
		"nothing ran":      {mark + "begin ./a\ntesting: warning: no tests to run\nPASS\n" + mark + "end ./a 0\n", "", "no tests ran"},
		"stopped":          {mark + "begin ./a\n--- PASS: TestX (0s)\n", "", "stopped before the tests ended"},
		"panic":            {console + "[    1.0] Kernel panic - not syncing: x\n", "Kernel panic", ""},
		"trouble":          {mark + "begin ./a\n--- PASS: TestX (0s)\n[ 1.0] BUG: unable to handle\n" + mark + "end ./a 0\n", "BUG: unable", ""},
		"broken":           {mark + "broken mount cgroup2: no\n" + console, "mount cgroup2: no", ""},
		"mark in a line":   {"prompt> " + mark + "begin ./a\n--- PASS: TestX (0s)\n" + mark + "end ./a 0\n", "", ""},
		"end only":         {mark + "end ./b 0\n" + console, "", ""},
		"a test's own ---": {mark + "begin ./a\n--- \n--- PASS\n--- PASS: TestX (0s)\n" + mark + "end ./a 0\n", "", ""},
	} {
		results, err := Parse(strings.NewReader(c.console))
		if !holds(err, c.guest) {
			t.Errorf("%s: guest %v, want %q", name, err, c.guest)
		}
		if len(results) != 1 || !holds(results[0].Err(), c.suite) {
			t.Errorf("%s: %+v, want %q", name, results, c.suite)
		}
	}
	if results, err := Parse(strings.NewReader("")); err != nil || len(results) != 0 {
		t.Errorf("silence: %+v, %v", results, err)
	}
	if err := judge(nil, []Suite{{Package: "./a"}}, nil); !holds(err, "./a did not begin") {
		t.Error(err)
	}
}

func TestTrouble(t *testing.T) {
	results, err := Parse(strings.NewReader(mark + "begin ./a\n=== RUN   TestX\n    fine.go:1: all is well\n--- PASS: TestX (0s)\n" +
		"=== RUN   TestY\n=== RUN   TestY/one\n    y.go:2: quiet\n=== RUN   TestY/two\n    y.go:3: broken\n--- FAIL: TestY (0s)\n    --- PASS: TestY/one (0s)\n    --- FAIL: TestY/two (0s)\n" +
		"=== RUN   TestZ\n    z.go:4: last words\n"))
	if err != nil || len(results) != 1 {
		t.Fatal(results, err)
	}
	got := results[0].Trouble()
	for _, want := range []string{"y.go:3: broken", "--- FAIL: TestY/two", "z.go:4: last words"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	for _, never := range []string{"all is well", "quiet", "PASS"} {
		if strings.Contains(got, never) {
			t.Errorf("%q is in\n%s", never, got)
		}
	}
}

func holds(err error, want string) bool {
	if err == nil || want == "" {
		return (err == nil) == (want == "")
	}
	return strings.Contains(err.Error(), want)
}

func FuzzParse(f *testing.F) {
	f.Add(console)
	f.Add(mark + "end\n" + mark + "begin\n--- FAIL: \n" + mark)
	f.Fuzz(func(t *testing.T, text string) {
		results, _ := Parse(strings.NewReader(text))
		for _, r := range results {
			_, _ = r.Err(), r.Trouble()
		}
	})
}

func TestGuestSources(t *testing.T) {
	got, err := guestSources("http://mirror.test/debian/ trixie\nhttp://mirror.test/debian/ trixie-updates\nhttp://mirror.test/debian-security/ trixie-security\nhttps://elsewhere.test/apt x\n\n", false)
	want := "deb http://mirror.test/debian-security/ bookworm-security main\n" +
		"deb http://mirror.test/debian/ bookworm main\n" +
		"deb http://mirror.test/debian/ bookworm-backports main\n" +
		"deb http://mirror.test/debian/ bookworm-updates main\n"
	if err != nil || got != want {
		t.Errorf("%s%v", got, err)
	}
	if got, _ := guestSources("http://m.test/debian x", true); !strings.HasPrefix(got, "deb [signed-by="+debianKeyring+"] ") {
		t.Error(got)
	}
	if _, err := guestSources("http://archive.test/ubuntu noble\n", true); err == nil || !strings.Contains(err.Error(), "no Debian archive") {
		t.Error(err)
	}
}

// TestBootWithoutKernel: a guest that cannot start is an error of its own.
func TestBootWithoutKernel(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("left out: qemu is missing")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "qemu", "usr", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "qemu", "usr", "bin", "qemu-system-x86_64")); err != nil {
		t.Fatal(err)
	}
	lab := &Lab{Dir: dir}
	if _, err := lab.Boot(t.Context(), Guests()[0], "/absent", 1e10, nil); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("booted without a kernel: %v", err)
	}
}
