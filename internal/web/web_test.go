package web_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
	"github.com/breakwater-sec/breakwater/internal/web"
)

var update = flag.Bool("update", false, "write the golden pages anew")

// now is when every test happens.
func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// anyPolicy takes every source for a right policy of that name.
type anyPolicy struct{ store *store.Store }

func (p anyPolicy) Check(source string) (string, []web.Problem) { return source, nil }
func (p anyPolicy) Put(ctx context.Context, source string, base int, by store.Actor) (store.Policy, error) {
	return p.store.PutPolicy(ctx, source, source, base, by)
}
func (p anyPolicy) Delete(ctx context.Context, name string, by store.Actor) (store.Policy, error) {
	return p.store.DeletePolicy(ctx, name, by)
}

// site is a console over a real store, and somebody who is logged in.
type site struct {
	t       testing.TB
	store   *store.Store
	console *web.Console
	cookie  *http.Cookie
}

func open(t testing.TB) *site { return openAt(t, now) }

// openAt is open with a clock for the store.
func openAt(t testing.TB, clock func() time.Time) *site {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	a, err := auth.New(t.Context(), s, s, now)
	if err != nil {
		t.Fatal(err)
	}
	password, err := a.FirstUser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	value, err := a.Login(t.Context(), "admin", password, store.Actor{Address: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := web.New(web.Options{Store: s, Images: s, Auth: a, Policies: anyPolicy{s}, Version: "test", Now: now,
		Request: func(*http.Request) string { return "r1" }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, s, c, &http.Cookie{Name: auth.Cookie, Value: value}}
}

func (s *site) get(path string) (int, string) {
	s.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.AddCookie(s.cookie)
	w := httptest.NewRecorder()
	s.console.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return w.Code, string(body)
}

// evil is what an attacker writes wherever they can name something.
const evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31mred \u202egpj.exe\u202c\u200b\u2066 {{.}} `a` javascript:alert(3) \x00 \xff"

// corpus fills every place that somebody outside can fill.
func (s *site) corpus() {
	s.t.Helper()
	ctx := s.t.Context()
	c := &event.Container{ID: evil, Name: evil, Engine: evil, Workload: evil, Capabilities: []string{evil}, Privileged: true, HostPID: true,
		Image: event.Image{Digest: "javascript:alert(4)", References: []string{evil}}}
	p := event.Process{ID: "1-1", PID: 7, Comm: evil, Path: evil, Args: []string{evil, strings.Repeat("A", 500)}}
	inc := event.Incident{Key: "k1", Time: now(), Host: evil, Severity: event.Severity(evil), Title: evil, Sentence: evil, Detection: evil, Attack: []string{evil},
		Decision:  event.Decision{Control: event.Control(evil), Effect: event.Effect(evil), Outcome: event.Outcome(evil), Why: evil, Policy: evil, Rule: evil, Mechanism: evil},
		Container: c, Tree: []event.Process{p, {ID: "2", ParentID: "1-1", Comm: "child"}}, Responses: []event.Response{{Effect: event.Effect(evil), Time: now(), Message: evil}},
		Event: event.Event{Key: evil, Kind: event.Kind(evil), Process: &p, Exec: &event.Exec{Path: evil, Script: evil, Upper: true}, File: &event.File{Path: evil, Filesystem: evil},
			Network: &event.Network{Address: evil, Port: 1, Head: evil}, Notice: &event.Notice{Message: evil},
			Gate: &event.Gate{Engine: evil, Action: evil, User: evil, Verdict: event.Verdict{Violations: []event.Violation{{Policy: evil, Rule: evil, Message: evil, Remediation: evil, Source: evil + ":7"}}}}}}
	rep := storetest.Report(storetest.Digest("a"), now())
	rep.Target, rep.Image.References, rep.Image.Platform, rep.Gaps = evil, []string{evil}, evil, []string{evil}
	rep.Config.User, rep.Config.Entrypoint, rep.Config.Cmd = evil, []string{evil}, []string{evil}
	rep.Layers[0].Step, rep.Distro.Name = evil, evil
	f := &rep.Findings[0]
	f.ID, f.Title, f.Severity, f.FixedVersion, f.State, f.Package.Name, f.Package.Step = evil, evil, event.Severity(evil), evil, event.FixState(evil), evil, evil
	rep.Packages[0] = f.Package
	rep.Verdict.Violations[0] = event.Violation{Policy: evil, Rule: evil, Message: evil, Remediation: evil}
	rep.Verdict.Incomplete = []string{evil}
	if err := s.store.AddAgent(ctx, store.Agent{ID: "a1", Host: evil, NKey: "U"}, store.Actor{Name: evil, Request: evil}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.store.PutPolicy(ctx, evil, "# "+evil+"\nrun:\n", 0, store.Actor{Name: evil}); err != nil {
		s.t.Fatal(err)
	}
	got, err := s.store.Ingest(ctx, storetest.Batch("a1", storetest.Record(s.t, 1, api.RecordIncident, "k1", inc), storetest.Record(s.t, 2, api.RecordReport, "r1", rep),
		storetest.Record(s.t, 3, api.RecordEvent, "e1", inc.Event), api.Record{Sequence: 4, Kind: api.RecordKind(evil), Key: "x", Body: []byte(`"` + "x" + `"`)}))
	if err != nil || len(got.Incidents) != 1 || len(got.Images) != 1 || got.Events != 1 || got.Rejected != 1 {
		s.t.Fatalf("%+v %v", got, err)
	}
	st := event.HostStatus{Host: evil, Version: evil, Problems: []string{evil}, Accounts: []event.Account{{Kind: event.Kind(evil)}},
		Containers: []event.Guarded{{Container: *c, Policies: []string{evil}, Mode: evil, Why: evil}},
		Doctor: event.Doctor{Kernel: evil, Hierarchy: evil, Notes: []string{evil}, Engines: []event.Engine{{Name: evil, Version: evil, Socket: evil, Gate: evil, Error: evil}},
			Capabilities: []event.Capability{{Control: event.Control(evil), Title: evil, Strength: event.Strength(evil), Mechanism: evil, Why: evil, Fix: evil}}}}
	if err := s.store.PutStatus(ctx, "a1", st); err != nil {
		s.t.Fatal(err)
	}
}

var corpusPages = []string{"/", "/incidents", "/incidents/1", "/images", "/images/" + storetest.Digest("a"), "/policies", "/hosts", "/hosts/a1", "/audit", "/search?q=alert",
	"/search?q=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE", "/incidents?text=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/incidents?severity=%3Cscript%3E", "/incidents/x", "/policies/%3Cscript%3E"}

var (
	scheme = regexp.MustCompile(`(?i)(href|src|action)="?\s*(javascript|data|vbscript):`)
	inline = regexp.MustCompile(`(?i)<[a-z][^<>]*\s(on[a-z]+|style)\s*=\s*["']`)
	tag    = regexp.MustCompile(`(?i)<(script|img|iframe|object|svg|style|base|meta)\b[^>]*>`)
)

// TestHostileCorpus: whatever is in the data, no page gains a tag, a handler, a
// scheme or a character that changes how it reads.
func TestHostileCorpus(t *testing.T) {
	s := open(t)
	s.corpus()
	_, plain := open(t).get("/audit")
	allowed := map[string]bool{}
	for _, x := range tag.FindAllString(plain, -1) {
		allowed[x] = true
	}
	for _, path := range corpusPages {
		_, page := s.get(path)
		for _, x := range tag.FindAllString(page, -1) {
			if !allowed[x] && !strings.HasPrefix(x, `<svg class="bars"`) {
				t.Errorf("%s holds the tag %s", path, x)
			}
		}
		if x := scheme.FindString(page) + inline.FindString(page); x != "" {
			t.Errorf("%s holds %s", path, x)
		}
		for _, r := range page {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				t.Errorf("%s holds %U", path, r)
				break
			}
		}
	}
}

// TestGoldenHostilePages keeps the two richest pages as they were looked at.
func TestGoldenHostilePages(t *testing.T) {
	s := open(t)
	s.corpus()
	for name, path := range map[string]string{"incident": "/incidents/1", "image": "/images/" + storetest.Digest("a")} {
		status, page := s.get(path)
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, page)
		}
		file := filepath.Join("testdata", "hostile-"+name+".html")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if page != string(want) {
			t.Errorf("%s differs from %s; look at it, then run: go test ./internal/web -update\n%s", path, file, firstDifference(page, string(want)))
		}
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d\n got  %s\n want %s", i+1, x[i], y[i])
		}
	}
	return "one is longer"
}

// TestEmptyPagesTeach: a new installation says what each page will show and
// which command fills it.
func TestEmptyPagesTeach(t *testing.T) {
	s := open(t)
	for path, want := range map[string]string{"/": "breakwater up", "/incidents": "make demo", "/images": "breakwater scan", "/policies": "/new-policy", "/hosts": "breakwater up",
		"/incidents?outcome=killed": "Show all", "/search": "Type a part", "/new-policy": "apiVersion: breakwater/v1"} {
		if status, page := s.get(path); status != 200 || !strings.Contains(page, want) {
			t.Errorf("%s: %d, lacks %q", path, status, want)
		}
	}
}

// TestNumbersLinkToTheirRows follows every link of the overview to a page that
// is there.
func TestNumbersLinkToTheirRows(t *testing.T) {
	s := open(t)
	s.corpus()
	links := regexp.MustCompile(`href="(/[^"]*)"`)
	seen := map[string]bool{}
	for _, from := range []string{"/", "/incidents", "/incidents/1", "/images", "/images/" + storetest.Digest("a"), "/policies", "/hosts", "/hosts/a1"} {
		_, page := s.get(from)
		for _, m := range links.FindAllStringSubmatch(page, -1) {
			link := strings.ReplaceAll(m[1], "&amp;", "&")
			if seen[link] || strings.HasPrefix(link, "/api/") {
				continue
			}
			seen[link] = true
			if status, _ := s.get(link); status >= 500 {
				t.Errorf("%s links to %s: %d", from, link, status)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d links", len(seen))
	}
}

func TestSearchFindsEachKind(t *testing.T) {
	s := open(t)
	if _, err := s.store.Ingest(t.Context(), storetest.Batch("a1", storetest.Record(t, 1, api.RecordIncident, "xmrig", storetest.Incident("xmrig")))); err != nil {
		t.Fatal(err)
	}
	if status, _ := s.get("/search?q=1"); status != http.StatusSeeOther {
		t.Errorf("an incident's number: %d", status)
	}
	if _, page := s.get("/search?q=XMRIG"); !strings.Contains(page, "/incidents/1") {
		t.Error("a part of a sentence does not find its incident")
	}
}

// BenchmarkPages measures every list over many rows: BREAKWATER_BENCH_ROWS of
// incidents, 20,000 unless it is set.
func BenchmarkPages(b *testing.B) {
	s := open(b)
	total := 20_000
	if n, err := strconv.Atoi(os.Getenv("BREAKWATER_BENCH_ROWS")); err == nil {
		total = n
	}
	for first := 0; first < total; first += 10_000 {
		s.fill(b, first, min(first+10_000, total))
	}
	for _, path := range []string{"/", "/incidents", "/incidents?text=nothing-has-this", "/incidents/7", "/incidents?outcome=detected", "/incidents?outcome=prevented",
		"/incidents?severity=critical", "/incidents?since=1h", "/incidents?policy=p3", "/incidents?policy=none", "/incidents?container=c7", "/incidents?container=none", "/incidents?host=h1&severity=high&since=24h",
		"/images", "/policies", "/hosts", "/audit", "/audit?object=none", "/search?q=nothing-has-this"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				if status, _ := s.get(path); status != 200 {
					b.Fatal(status)
				}
			}
		})
	}
}

// fill adds incidents of many containers, hosts and policies; one in a
// thousand is of a rare outcome.
func (s *site) fill(b *testing.B, first, last int) {
	b.Helper()
	var records []api.Record
	for i := first; i < last; i++ {
		inc := storetest.Incident(fmt.Sprint(i))
		inc.Host, inc.Container.Name, inc.Decision.Policy = fmt.Sprint("h", i%7), fmt.Sprint("c", i%500), fmt.Sprintf("baseline, p%d", i%9)
		if inc.Decision.Outcome = event.Killed; i%1000 == 0 {
			inc.Decision.Outcome, inc.Severity = event.Detected, event.SeverityCritical
		}
		records = append(records, storetest.Record(b, uint64(i), api.RecordIncident, inc.Key, inc))
	}
	if _, err := s.store.Ingest(b.Context(), storetest.Batch("a1", records...)); err != nil {
		b.Fatal(err)
	}
}

// TestNextStepsHoldWhatTheySay: the advice of an incident is a change that lets
// the act pass and nothing else through the door.
func TestNextStepsHoldWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		name, rule  string
		policy      string
		kind        event.Kind
		network     event.Network
		want, never string
	}{
		{"outside egress", "run.network.egress", "p", event.KindConnect, event.Network{Address: "10.0.0.9", Port: 80}, "run.network.egress", "run.network.deny"},
		{"outside the egress of one of two", "run.network.egress", "baseline, p", event.KindConnect, event.Network{Address: "10.0.0.9", Port: 80}, "that has that list", "of <code>baseline, p</code>"},
		{"denied peer", "run.network 10.0.0.9/32 (p:9)", "p", event.KindConnect, event.Network{Address: "10.0.0.9", Port: 80}, "run.network.deny", "{to:"},
		{"metadata service", "run.network 169.254.169.254/32 (p:10)", "p", event.KindConnect, event.Network{Address: "169.254.169.254", Port: 80}, "run.network.metadataService", "{to:"},
		{"raw socket", "run.network.egress", "p", event.KindSocket, event.Network{Transport: "raw"}, "add an exception", "{to:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			inc := storetest.Incident("n")
			inc.Decision = event.Decision{Control: event.ControlNetwork, Effect: event.EffectBlock, Outcome: event.Prevented, Policy: c.policy, Rule: c.rule}
			inc.Event = event.Event{Kind: c.kind, Network: &c.network}
			if _, err := s.store.Ingest(t.Context(), storetest.Batch("a1", storetest.Record(t, 1, api.RecordIncident, "n", inc))); err != nil {
				t.Fatal(err)
			}
			_, page := s.get("/incidents/1")
			_, advice, _ := strings.Cut(page, "What you can do")
			advice, _, _ = strings.Cut(advice, "</section>")
			if !strings.Contains(advice, c.want) || strings.Contains(advice, c.never) {
				t.Errorf("got %s", advice)
			}
		})
	}
}

// TestRefusedContainerHasNoEvents: a container that was never created has no
// id, and the events of others are not its own.
func TestRefusedContainerHasNoEvents(t *testing.T) {
	s := open(t)
	inc := storetest.Incident("g")
	inc.Container = &event.Container{Engine: "docker"}
	other := event.Event{Key: "e", Kind: event.KindExec, Time: now(), Container: &event.Container{ID: "c2"}, Exec: &event.Exec{Path: "/not/mine"}}
	if _, err := s.store.Ingest(t.Context(), storetest.Batch("a1", storetest.Record(t, 1, api.RecordIncident, "g", inc), storetest.Record(t, 2, api.RecordEvent, "e", other))); err != nil {
		t.Fatal(err)
	}
	_, page := s.get("/incidents/1")
	if strings.Contains(page, "/not/mine") || strings.Contains(page, "all its incidents") || !strings.Contains(page, "never created") {
		t.Errorf("got %s", page)
	}
}
