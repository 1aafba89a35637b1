package gate_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const scanPolicy = `
apiVersion: breakwater/v1
kind: Policy
metadata: {name: scans}
image: {unscanned: scan, maxSeverity: high}
`

func open(o *gate.Options) { o.OnFailure = gate.FailOpen }

func (l *lab) plainRun() []string {
	return []string{"run", "--rm", "--network=none", l.busybox, "true"}
}

func TestAgent(t *testing.T) {
	l := newLab(t, scanPolicy)
	digest := l.digest(l.busybox)

	t.Run("dead: an image that must be scanned cannot be judged", func(t *testing.T) {
		l.refused(t, l.plainRun(), "cannot be judged", "agent does not answer", "--on-failure=open")
	})
	finds := func(severities ...event.Severity) func(api.ScanRequest) (report.Report, error) {
		return func(q api.ScanRequest) (report.Report, error) { return newReport(q.Digest, severities...), nil }
	}
	a := l.startAgent(finds(event.SeverityCritical))
	t.Run("it scans", func(t *testing.T) {
		l.refused(t, l.plainRun(), "image.maxSeverity", "CVE-2026-0001")
		a.scansWith(finds())
		l.engine.MustRun(t, l.plainRun()...)
		if _, _, _, scans := a.seen(); len(scans) == 0 || scans[0] != digest {
			t.Errorf("scanned %v, want %s", scans, digest)
		}
	})
	t.Run("it cannot scan: as unscanned", func(t *testing.T) {
		a.scansWith(func(api.ScanRequest) (report.Report, error) { return report.Report{}, errScan })
		l.refused(t, l.plainRun(), "image.unscanned", errScan.Error())
	})
	t.Run("it is told of a start before it happens, and of builds", func(t *testing.T) {
		l.setReport(digest)
		l.engine.MustRun(t, "run", "--rm", "--network=none", "--name=told", "--label=a=b", l.busybox, "true")
		l.engine.BuildImage(t, "bw-told:1", "FROM "+l.busybox+"\nRUN true\n", nil)
		_, starts, builds, _ := a.seen()
		last := starts[len(starts)-1]
		if last.Name != "told" || last.Image.Digest != digest || last.Labels["a"] != "b" || last.Image.Name() != l.busybox || last.ID == "" {
			t.Errorf("the last start = %+v", last)
		}
		l.until("the build's end is told", func() bool {
			_, _, builds, _ = a.seen()
			return builds[len(builds)-1] == 0
		})
		if builds[0] != 1 {
			t.Errorf("builds = %v", builds)
		}
	})
	t.Run("notes outlive it, each once", func(t *testing.T) {
		a.stop()
		for range 3 {
			l.refused(t, []string{"run", "--rm", "--privileged", "--name", "x", "no-such-digest"}, "")
			l.engine.MustRun(t, l.plainRun()...)
		}
		if s := l.status(); s.Waiting == 0 {
			t.Errorf("nothing waits: %+v", s)
		}
		kill(t, l.status().Worker)
		back := l.startAgent(finds())
		l.until("all notes are given over", func() bool {
			s := l.status()
			return s.Worker != 0 && s.Waiting == 0
		})
		notes, _, _, _ := back.seen()
		keys := map[string]int{}
		for _, n := range notes {
			keys[n.Key]++
			if n.Kind != event.KindGate || n.Gate == nil || n.Key == "" || n.Time.IsZero() {
				t.Errorf("note %+v", n)
			}
		}
		if len(keys) < 6 { // a create and a start for each run
			t.Errorf("%d notes, want at least 6", len(keys))
		}
		a = back
	})
	t.Run("a refusal is noted with its reasons", func(t *testing.T) {
		l.setReport(digest, event.SeverityCritical)
		l.refused(t, l.plainRun(), "image.maxSeverity")
		l.until("the refusal is noted", func() bool {
			notes, _, _, _ := a.seen()
			last := notes[len(notes)-1]
			return last.Decision != nil && last.Decision.Outcome == event.Prevented && last.Decision.Control == event.ControlImage &&
				last.Gate.Action == "create" && len(last.Gate.Verdict.Violations) == 1 && last.Container.Image.Digest == digest
		})
	})
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	l := newLab(t, scanPolicy, open)
	t.Run("an image that cannot be judged without the agent runs, and that is noted", func(t *testing.T) {
		l.engine.MustRun(t, l.plainRun()...)
		a := l.startAgent(func(q api.ScanRequest) (report.Report, error) { return newReport(q.Digest), nil })
		l.until("it is noted", func() bool {
			notes, _, _, _ := a.seen()
			return len(notes) > 0 && notes[0].Decision != nil && notes[0].Decision.Outcome == event.NotCovered && notes[0].Gate.Verdict.Allowed
		})
		a.stop()
	})
	t.Run("what policy refuses is refused all the same", func(t *testing.T) {
		l.setPolicy(2, strictPolicy)
		l.refused(t, append([]string{"run", "--privileged"}, l.plainRun()[1:]...), "start.privileged")
	})
}

func TestPolicyFiles(t *testing.T) {
	l := newLab(t, "")
	t.Run("without a policy nothing starts, and everything can be looked at", func(t *testing.T) {
		l.refused(t, l.plainRun(), "no policy is in force")
		l.engine.MustRun(t, "ps", "-a")
		l.engine.MustRun(t, "images")
	})
	l.setPolicy(7, lenientPolicy)
	t.Run("a new one is in force at once", func(t *testing.T) { l.engine.MustRun(t, l.plainRun()...) })
	bundle := filepath.Join(l.options.Data, api.FilePolicy)
	good, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, data, want string }{
		{"not signed", strings.Replace(string(good), `"payload":"`, `"payload":"e30K`, 1), "not signed"},
		{"torn", string(good[:len(good)/2]), "unexpected end"},
		{"gone", "", "no such file"},
	} {
		t.Run("a bundle that is "+c.name+" changes nothing", func(t *testing.T) {
			l.write(api.FilePolicy, []byte(c.data))
			if c.data == "" {
				os.Remove(bundle)
			}
			l.engine.MustRun(t, l.plainRun()...)
			if s := l.status(); s.Generation != 7 || !strings.Contains(s.Problem, c.want) {
				t.Errorf("status = %+v, want generation 7 and a problem with %q", s, c.want)
			}
		})
	}
	t.Run("an older generation is not put back", func(t *testing.T) {
		l.setPolicy(6, strictPolicy)
		l.engine.MustRun(t, l.plainRun()...)
		if s := l.status(); s.Generation != 7 || !strings.Contains(s.Problem, "older") {
			t.Errorf("status = %+v", s)
		}
	})
	t.Run("a key that others can write is no key", func(t *testing.T) {
		key := filepath.Join(l.options.Data, api.FilePolicyKey)
		if err := os.Chmod(key, 0o666); err != nil {
			t.Fatal(err)
		}
		if s := l.status(); !strings.Contains(s.Problem, "others than its owner") {
			t.Errorf("status = %+v", s)
		}
	})
}

func TestWorkerDies(t *testing.T) {
	l := newLab(t, lenientPolicy)
	t.Run("killed: the next call is judged by another one", func(t *testing.T) {
		for range 3 {
			before := l.status().Worker
			kill(t, before)
			l.engine.MustRun(t, l.plainRun()...)
			if after := l.status().Worker; after == before || after == 0 {
				t.Errorf("worker %d, before %d", after, before)
			}
		}
	})
	t.Run("hanging: it is replaced", func(t *testing.T) {
		before := l.status().Worker
		if err := syscall.Kill(before, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		l.until("another worker answers", func() bool { w := l.status().Worker; return w != 0 && w != before })
		l.engine.MustRun(t, l.plainRun()...)
	})
}

func TestWorkerStaysDead(t *testing.T) {
	broken := func() *exec.Cmd { return exec.Command("/bin/false") }
	for _, c := range []struct {
		choice gate.Failure
		runs   bool
	}{{gate.FailClosed, false}, {gate.FailOpen, true}} {
		t.Run(string(c.choice), func(t *testing.T) {
			l := newLab(t, strictPolicy, func(o *gate.Options) { o.OnFailure = c.choice })
			l.stop()
			l.startGate(broken)
			l.engine.MustRun(t, "ps")
			if c.runs {
				l.engine.MustRun(t, l.plainRun()...)
			} else {
				l.refused(t, l.plainRun(), "cannot be judged", "worker", "--on-failure=open")
			}
			if s := l.status(); s.Waiting == 0 {
				t.Errorf("what was decided without a worker is not kept: %+v", s)
			}
		})
	}
}

// Refusals that wait for an agent that is away are bounded; what is lost is
// counted, shown and told.
func TestDroppedNotes(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	body := fmt.Sprintf(`{"Image":%q,"Labels":{"x":%q}}`, l.busybox, strings.Repeat("x", 16<<10-1))
	request := fmt.Sprintf(`{"RequestMethod":"POST","RequestUri":"/v1.41/containers/create","RequestBody":%q}`, base64.StdEncoding.EncodeToString([]byte(body)))
	const asked = 1000
	for range asked {
		said := exchange(t, unixClient(l.plugin), http.MethodPost, "http://gate/AuthZPlugin.AuthZReq", request)
		if !strings.Contains(string(said), "require.memoryLimit") {
			t.Fatalf("%.300s", said)
		}
	}
	dropped := l.status().Dropped
	if dropped == 0 || dropped == asked {
		t.Fatalf("%d of %d notes of 16 KiB were dropped", dropped, asked)
	}
	a := l.startAgent(nil)
	l.until("the agent is told", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.dropped == dropped
	})
}
