// Package storetest is the conformance suite of the store: every database that
// the store may stand on runs it.
package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// Digest is a config digest made of one repeated hex digit.
func Digest(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// Incident is a plain incident with a key.
func Incident(key string) event.Incident {
	return event.Incident{
		Key: key, Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Host: "harbour-1", Severity: event.SeverityHigh,
		Title: "Drift", Sentence: "`/tmp/" + key + "` was written into `web-1` after it started, then run by `sh`; Breakwater killed it.",
		Detection: "drift", Attack: []string{"T1611"},
		Decision:  event.Decision{Control: event.ControlDrift, Effect: event.EffectKill, Outcome: event.Killed, Policy: "baseline", Rule: "run.exec.drift", Why: "The program was not in the image."},
		Container: &event.Container{ID: strings.Repeat("c0ffee00", 8), Name: "web-1", Image: event.Image{Digest: Digest("a"), References: []string{"shop/web:1"}}},
	}
}

// Record wraps a value for a batch.
func Record(t testing.TB, seq uint64, kind api.RecordKind, key string, v any) api.Record {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return api.Record{Sequence: seq, Kind: kind, Key: key, Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Body: body}
}

// Batch is a batch of one agent.
func Batch(agent string, records ...api.Record) api.Batch {
	return api.Batch{Version: api.Version, Agent: agent, Epoch: "e1", Records: records}
}

// Report is a scan of a small image with one fixable critical finding.
func Report(digest string, at time.Time) report.Report {
	pkg := event.Package{Name: "zlib1g", Version: "1.2.13", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/zlib1g@1.2.13", Path: "var/lib/dpkg/status", Layer: Digest("1"), Step: "RUN apt-get install zlib1g"}
	return report.Report{
		Schema: report.SchemaVersion, Time: at, Target: "shop/web:1", Image: event.Image{Digest: digest, Platform: "linux/amd64", References: []string{"shop/web:1"}},
		Layers:   []report.Layer{{DiffID: Digest("1"), Step: "RUN apt-get install zlib1g", Size: 4096, Files: 3}},
		Packages: []event.Package{pkg},
		Findings: []event.Finding{{ID: "CVE-2023-45853", Severity: event.SeverityCritical, Package: pkg, State: event.FixFixed, FixedVersion: "1.2.14", Source: "debian"}},
		Verdict: &event.Verdict{Allowed: false, Policies: []string{"baseline"}, Violations: []event.Violation{{Policy: "baseline", Rule: "image.maxSeverity",
			Message: "CVE-2023-45853 in zlib1g is critical", Remediation: "Upgrade zlib1g to 1.2.14", Source: "baseline.yaml:12"}}},
	}
}

var actor = store.Actor{Name: "test", Address: "127.0.0.1", Request: "r1"}

// Run runs the suite; open returns a new, empty store that the test closes.
func Run(t *testing.T, open func(*testing.T) *store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *store.Store)
	}{
		{"exactly once", exactlyOnce}, {"keys are the agent's own", ownKeys}, {"rejects", rejects}, {"wrong version", wrongVersion},
		{"concurrent ingest", concurrent}, {"stories", stories}, {"filters", filters}, {"pages", pages}, {"images", images}, {"where", where}, {"status", status},
		{"policies", policies}, {"generations", generations}, {"prune", prune}, {"accounts", accounts}, {"enrolment", enrolment}, {"cursors", cursors},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			c.test(t, s)
		})
	}
}

func ingest(t testing.TB, s *store.Store, b api.Batch) store.Ingested {
	t.Helper()
	got, err := s.Ingest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func exactlyOnce(t *testing.T, s *store.Store) {
	b := Batch("a1", Record(t, 1, api.RecordIncident, "k1", Incident("k1")), Record(t, 2, api.RecordEvent, "k2", event.Event{Key: "k2", Kind: event.KindExec}),
		Record(t, 3, api.RecordReport, "k3", Report(Digest("a"), time.Unix(100, 0))))
	first, again := ingest(t, s, b), ingest(t, s, b)
	if first.Committed != 3 || len(first.Incidents) != 1 || first.Events != 1 || len(first.Images) != 1 || first.Known != 0 {
		t.Errorf("first: %+v", first)
	}
	if again.Committed != 3 || len(again.Incidents) != 0 || again.Events != 0 || len(again.Images) != 0 || again.Known != 3 {
		t.Errorf("again: %+v", again)
	}
	all, err := s.Incidents(t.Context(), store.IncidentFilter{})
	if err != nil || len(all) != 1 || all[0].Key != "k1" || all[0].ID != first.Incidents[0].ID || all[0].Agent != "a1" {
		t.Errorf("stored %+v, %v", all, err)
	}
}

// ownKeys: an agent cannot hide another one's incident by taking its key.
func ownKeys(t *testing.T, s *store.Store) {
	ingest(t, s, Batch("evil", Record(t, 1, api.RecordIncident, "k1", Incident("k1"))))
	if got := ingest(t, s, Batch("good", Record(t, 1, api.RecordIncident, "k1", Incident("k1")))); len(got.Incidents) != 1 {
		t.Errorf("the second agent's incident was taken for the first one's: %+v", got)
	}
}

func rejects(t *testing.T, s *store.Store) {
	got := ingest(t, s, Batch("a1",
		api.Record{Sequence: 1, Kind: api.RecordIncident, Key: "bad", Body: []byte("{")},
		api.Record{Sequence: 2, Kind: "riddle", Key: "kind", Body: []byte("{}")},
		api.Record{Sequence: 3, Kind: api.RecordEvent, Key: strings.Repeat("x", store.MaxKey+1), Body: []byte("{}")},
		Record(t, 4, api.RecordReport, "rep", Report("sha256:../../etc", time.Unix(1, 0))),
		Record(t, 5, api.RecordIncident, "ok", Incident("ok"))))
	if got.Rejected != 4 || len(got.Incidents) != 1 || got.Committed != 5 {
		t.Errorf("%+v", got)
	}
	n, reason, err := s.Rejects(t.Context(), "a1")
	if err != nil || n != 4 || !strings.Contains(reason, "digest") {
		t.Errorf("rejects: %d %q %v", n, reason, err)
	}
	if gone, err := s.PruneRejects(t.Context(), 1); err != nil || gone != 3 {
		t.Errorf("%d rejects pruned (%v)", gone, err)
	}
}

func wrongVersion(t *testing.T, s *store.Store) {
	if _, err := s.Ingest(t.Context(), api.Batch{Version: 99, Agent: "a"}); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Ingest(t.Context(), api.Batch{Version: api.Version}); err == nil {
		t.Error("a batch without an agent was taken")
	}
}

func concurrent(t *testing.T, s *store.Store) {
	const agents, batches = 4, 20
	var wg sync.WaitGroup
	for a := range agents {
		for range 2 { // each agent's batches come twice, from two connections
			wg.Go(func() {
				for b := range batches {
					key := fmt.Sprintf("k%d", b)
					if _, err := s.Ingest(t.Context(), Batch(fmt.Sprintf("a%d", a), Record(t, uint64(b), api.RecordIncident, key, Incident(key)))); err != nil {
						t.Error(err)
					}
					if _, err := s.Incidents(t.Context(), store.IncidentFilter{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	all, err := s.Incidents(t.Context(), store.IncidentFilter{Limit: store.MaxPage})
	if err != nil || len(all) != agents*batches {
		t.Errorf("%d incidents, want %d (%v)", len(all), agents*batches, err)
	}
}

func filters(t *testing.T, s *store.Store) {
	other := Incident("k2")
	other.Severity, other.Host, other.Decision.Outcome, other.Decision.Policy = event.SeverityLow, "harbour-2", event.Detected, "pay, payments"
	other.Container = nil
	other.Sentence = "100% of a_b was read"
	ingest(t, s, Batch("a1", Record(t, 1, api.RecordIncident, "k1", Incident("k1")), Record(t, 2, api.RecordIncident, "k2", other)))
	for want, fs := range map[string][]store.IncidentFilter{
		"k2 k1": {{}, {Severity: event.SeverityLow}, {Agent: "a1"}, {Text: "A"}},
		"k1 k2": {{Oldest: true}},
		"k1": {{Severity: event.SeverityHigh}, {Outcome: event.Killed}, {Policy: "baseline"}, {Host: "harbour-1"}, {Key: "k1"}, {Image: Digest("a")},
			{Container: "web-1"}, {Container: "c0ffee00c0ff"}, {Text: "WEB-1"}, {Before: 2}, {Limit: 1, Oldest: true}, {Control: event.ControlDrift, Outcome: event.Killed}},
		"k2": {{Outcome: event.Detected}, {Policy: "pay"}, {Policy: "payments"}, {Text: "100%"}, {Text: "a_b"}, {After: 1}, {Limit: 1}},
		"":   {{Container: "c0ffee"}, {Policy: "ments"}, {Policy: "base%"}, {Text: "%%"}, {Text: "axb"}, {Host: "harbour-3"}, {Since: time.Now().Add(time.Hour)}},
	} {
		for _, f := range fs {
			checkFilter(t, s, f, want)
		}
	}
}

// checkFilter wants the incidents with these keys.
func checkFilter(t *testing.T, s *store.Store, f store.IncidentFilter, want string) {
	t.Helper()
	got, err := s.Incidents(t.Context(), f)
	if err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
	var keys []string
	for _, i := range got {
		keys = append(keys, i.Key)
	}
	if strings.Join(keys, " ") != want {
		t.Errorf("%+v: got %q, want %q", f, keys, want)
	}
}

func pages(t *testing.T, s *store.Store) {
	var records []api.Record
	for i := range 120 {
		key := fmt.Sprintf("k%03d", i)
		records = append(records, Record(t, uint64(i+1), api.RecordIncident, key, Incident(key)))
	}
	ingest(t, s, Batch("a1", records...))
	seen, before := 0, uint64(0)
	for {
		page, err := s.Incidents(t.Context(), store.IncidentFilter{Before: before})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		seen, before = seen+len(page), page[len(page)-1].ID
	}
	counts, err := s.CountIncidents(t.Context(), store.IncidentFilter{})
	if err != nil || len(counts) != 1 || counts[0].Count != 120 || counts[0].Severity != event.SeverityHigh {
		t.Errorf("counts %+v, %v", counts, err)
	}
	hours, err := s.IncidentsPerHour(t.Context(), 24)
	if err != nil || len(hours) != 24 || hours[23]+hours[22] != 120 {
		t.Errorf("hours %v, %v", hours, err)
	}
	if last, err := s.LastIncident(t.Context()); err != nil || last != 120 || seen != 120 {
		t.Errorf("last %d, seen %d, %v", last, seen, err)
	}
}

func images(t *testing.T, s *store.Store) {
	ctx := t.Context()
	clean := Report(Digest("b"), time.Unix(100, 0))
	clean.Findings, clean.Verdict = nil, &event.Verdict{Allowed: true}
	clean.Image.References = []string{"shop/clean:1"}
	ingest(t, s, Batch("a1", Record(t, 1, api.RecordReport, "r1", Report(Digest("a"), time.Unix(100, 0))), Record(t, 2, api.RecordReport, "r2", clean)))
	// The agent's clock went back: what it sent last counts all the same, and
	// what it sent before does not come back when it is delivered again.
	first := Record(t, 1, api.RecordReport, "r1", Report(Digest("a"), time.Unix(100, 0)))
	last := Report(Digest("a"), time.Unix(50, 0))
	last.Findings = nil
	if got := ingest(t, s, Batch("a1", Record(t, 3, api.RecordReport, "r3", last))); len(got.Images) != 1 {
		t.Errorf("after the clock went back: %+v", got)
	}
	if got := ingest(t, s, Batch("a1", first, Record(t, 3, api.RecordReport, "r3", last))); len(got.Images) != 0 || got.Known != 2 {
		t.Errorf("delivered again: %+v", got)
	}
	if img, _, err := s.Image(ctx, Digest("a")); err != nil || img.Findings != 0 || img.Scanned.Unix() != 50 {
		t.Errorf("%+v %v", img, err)
	}
	newSpool := Batch("a1", first) // its disk was lost, numbers start again
	newSpool.Epoch = "another"
	if got := ingest(t, s, newSpool); len(got.Images) != 1 {
		t.Errorf("from a new spool: %+v", got)
	}
	img, rep, err := s.Image(ctx, Digest("a"))
	if err != nil || img.Worst != event.SeverityCritical || img.Fixable != 1 || img.Verdict.Allowed || len(rep.Findings) != 1 {
		t.Errorf("%+v %v", img, err)
	}
	if count, err := s.CountImages(ctx); err != nil || count != (store.ImageCount{All: 2, Unmatched: 2}) {
		t.Errorf("images without intelligence: %+v %v", count, err)
	}
	if by, err := s.JudgedBy(ctx); err != nil || len(by) != 1 || by["baseline"] != 1 {
		t.Errorf("judged by %v %v", by, err)
	}
	for want, f := range map[string]store.ImageFilter{"shop/clean:1": {Text: "CLEAN"}, "shop/web:1": {Refused: true}, "": {Running: true}} {
		got, err := s.Images(ctx, f)
		name := ""
		if len(got) == 1 {
			name = got[0].Name
		}
		if err != nil || name != want || len(got) > 1 {
			t.Errorf("%+v: %+v %v", f, got, err)
		}
	}
	if _, err := s.Judge(ctx, store.Image{Digest: Digest("a")}, event.Verdict{Allowed: true}); err != nil {
		t.Fatal(err)
	}
	changes := func() []store.Event {
		all, err := s.Events(ctx, store.EventFilter{Kind: event.KindImage})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := changes(); len(got) != 0 {
		t.Errorf("the first verdict is no change: %+v", got)
	}
	refusing := event.Verdict{Violations: []event.Violation{{Policy: "baseline", Rule: "r"}}}
	for _, v := range []event.Verdict{{Allowed: true}, refusing, refusing, {Allowed: true}} {
		if _, err := s.Judge(ctx, store.Image{Digest: Digest("a")}, v); err != nil {
			t.Fatal(err)
		}
	}
	if got := changes(); len(got) != 2 || got[1].Image.Verdict.Allowed || !got[1].Image.WasAllowed || got[0].Image.WasAllowed ||
		got[0].Image.Image.Digest != Digest("a") || got[0].Image.Image.Name() != "shop/web:1" {
		t.Errorf("changes of verdict: %+v", got)
	}
	if _, err := s.Judge(ctx, store.Image{Digest: Digest("f")}, refusing); err != nil {
		t.Errorf("an image that is not known: %v", err)
	}
	if refused, err := s.Images(ctx, store.ImageFilter{Refused: true}); err != nil || len(refused) != 0 {
		t.Errorf("after the newer verdict: %+v %v", refused, err)
	}
	if _, _, err := s.Image(ctx, Digest("f")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown image: %v", err)
	}
}

func status(t *testing.T, s *store.Store) {
	ctx := t.Context()
	st := event.HostStatus{Host: "harbour-1", Generation: 3, Containers: []event.Guarded{
		{Container: event.Container{ID: "c1", Name: "web-1", Image: event.Image{Digest: Digest("a")}}, Generation: 3, Mode: "enforce"}}}
	if err := s.PutStatus(ctx, "a1", st); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("status of an unknown agent: %v", err)
	}
	if err := s.AddAgent(ctx, store.Agent{ID: "a1", Host: "harbour-1", NKey: "UA"}, actor); err != nil {
		t.Fatal(err)
	}
	if err := s.AddAgent(ctx, store.Agent{ID: "a2", Host: "harbour-1", NKey: "UA"}, actor); err == nil {
		t.Error("two agents with one key")
	}
	for range 2 {
		if err := s.PutStatus(ctx, "a1", st); err != nil {
			t.Fatal(err)
		}
	}
	where, err := s.Running(ctx, Digest("a"))
	if err != nil || len(where) != 1 || where[0].Host != "harbour-1" || where[0].Generation != 3 {
		t.Errorf("%+v %v", where, err)
	}
	a, err := s.AgentByKey(ctx, "UA")
	if err != nil || a.Status == nil || a.Status.Agent != "a1" || a.Seen.IsZero() {
		t.Errorf("%+v %v", a, err)
	}
	if err := s.RevokeAgent(ctx, "a1", actor); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeAgent(ctx, "a1", actor); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

func policies(t *testing.T, s *store.Store) {
	ctx := t.Context()
	put := func(source string, base int) (store.Policy, error) {
		return s.PutPolicy(ctx, "payments", source, base, actor)
	}
	if p, err := put("one", 0); err != nil || p.Version != 1 {
		t.Fatalf("%+v %v", p, err)
	}
	if p, err := put("two", 1); err != nil || p.Version != 2 {
		t.Fatalf("%+v %v", p, err)
	}
	if p, err := put("two", -1); err != nil || p.Version != 2 {
		t.Errorf("the same source made version %d (%v)", p.Version, err)
	}
	if _, err := put("three", 1); !errors.Is(err, store.ErrConflict) {
		t.Errorf("edit of an old version: %v", err)
	}
	if p, err := s.Policy(ctx, "payments", 1); err != nil || p.Source != "one" || p.Author != "test" {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := s.DeletePolicy(ctx, "payments", actor); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeletePolicy(ctx, "payments", actor); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if in, err := s.Policies(ctx); err != nil || len(in) != 0 {
		t.Errorf("in force after delete: %+v %v", in, err)
	}
	if p, err := put("two", 3); err != nil || p.Version != 4 {
		t.Errorf("after delete: %+v %v", p, err)
	}
	g, err := s.Generation(ctx)
	if all, err2 := s.PolicyVersions(ctx, "payments"); len(all) != 4 || g != 4 || err != nil || err2 != nil {
		t.Errorf("%d versions, generation %d, %v %v", len(all), g, err, err2)
	}
	if log, err := s.AuditLog(ctx, "payments", 10); err != nil || len(log) != 4 || log[0].Actor != "test" || log[1].Action != "policy.delete" {
		t.Errorf("audit: %+v %v", log, err)
	}
}

func generations(t *testing.T, s *store.Store) {
	ctx := t.Context()
	together(t, s)
	for _, c := range []struct {
		seen, want uint64
	}{{0, 1}, {7, 8}, {3, 8}, {1 << 60, 8}} {
		if _, err := s.RaiseGeneration(ctx, c.seen, actor); err != nil {
			t.Fatal(err)
		}
		if g, err := s.Generation(ctx); err != nil || g != c.want {
			t.Errorf("after seeing %d: generation %d (%v), want %d", c.seen, g, err, c.want)
		}
	}
	if _, err := s.PutPolicy(ctx, "p", "x", 0, actor); err != nil {
		t.Fatal(err)
	}
	if g, err := s.Generation(ctx); err != nil || g != 9 {
		t.Errorf("generation %d %v", g, err)
	}
}

// together: several policies are one change, and none when they are in force.
func together(t *testing.T, s *store.Store) {
	t.Helper()
	files := []api.PolicyFile{{Name: "a", Source: "1"}, {Name: "b", Source: "1"}}
	for range 2 {
		if _, err := s.PutPolicies(t.Context(), files, actor); err != nil {
			t.Fatal(err)
		}
	}
	if g, err := s.Generation(t.Context()); err != nil || g != 1 {
		t.Errorf("generation %d (%v) after one change, put twice", g, err)
	}
}

func prune(t *testing.T, s *store.Store) {
	ctx := t.Context()
	var records []api.Record
	for i := range 100 {
		key := fmt.Sprint(i)
		records = append(records, Record(t, uint64(i), api.RecordEvent, key, event.Event{Key: key, Kind: event.KindExec, Container: &event.Container{ID: "c"}}))
	}
	ingest(t, s, Batch("a1", append(records, Record(t, 200, api.RecordIncident, "k1", Incident("k1")))...))
	if n, err := s.PruneEvents(ctx, time.Now().Add(-time.Hour), 30); err != nil || n != 70 {
		t.Errorf("pruned %d to keep 30 (%v)", n, err)
	}
	if left, err := s.Events(ctx, store.EventFilter{Container: "c", Limit: 200}); err != nil || len(left) != 30 || left[0].Key != "99" {
		t.Errorf("%d left (%v)", len(left), err)
	}
	if n, err := s.PruneEvents(ctx, time.Now().Add(time.Hour), 0); err != nil || n != 30 {
		t.Errorf("pruned %d by age (%v)", n, err)
	}
	if last, err := s.LastIncident(ctx); err != nil || last != 1 {
		t.Errorf("incidents were pruned: %d %v", last, err)
	}
}

func accounts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	if err := s.PutUser(ctx, "ann", "hash", "admin", actor); err != nil {
		t.Fatal(err)
	}
	ann := store.Actor{Name: "ann", Address: "::1"}
	if err := s.AddSession(ctx, []byte("h1"), ann); err != nil {
		t.Fatal(err)
	}
	if x, err := s.Session(ctx, []byte("h1")); err != nil || x.User != "ann" || x.Role != "admin" {
		t.Errorf("%+v %v", x, err)
	}
	if err := s.PutUser(ctx, "ann", "hash2", "viewer", actor); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, []byte("h1")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session outlived a new password: %v", err)
	}
	if err := s.AddSession(ctx, []byte("h2"), store.Actor{Name: "nobody"}); err == nil {
		t.Error("a session of nobody")
	}
	if err := s.PutToken(ctx, "ci", []byte("t1"), "viewer", time.Now().Add(-time.Second), actor); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token(ctx, []byte("t1")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired token: %v", err)
	}
}

func enrolment(t *testing.T, s *store.Store) {
	ctx := t.Context()
	if err := s.AddEnrolment(ctx, []byte("e1"), time.Now().Add(time.Hour), 5, actor); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	used := 0
	for range 20 {
		wg.Go(func() {
			if s.UseEnrolment(ctx, []byte("e1")) == nil {
				mu.Lock()
				used++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if used != 5 {
		t.Errorf("a token for 5 was used %d times", used)
	}
	if err := s.AddEnrolment(ctx, []byte("e2"), time.Now().Add(-time.Hour), 5, actor); err != nil {
		t.Fatal(err)
	}
	if err := s.UseEnrolment(ctx, []byte("e2")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired token: %v", err)
	}
}

func cursors(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, want := range []uint64{0, 7, 9} {
		if want > 0 {
			if err := s.SaveCursor(ctx, "syslog", want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Cursor(ctx, "syslog"); err != nil || got != want {
			t.Errorf("cursor %d %v, want %d", got, err, want)
		}
	}
}
