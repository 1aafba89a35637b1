package server_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// publisher serves OSV's npm advisories: one critical one for each name.
type publisher struct{ archive atomic.Pointer[[]byte] }

func (p *publisher) publish(t testing.TB, names ...string) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, name := range names {
		id := fmt.Sprintf("CVE-2026-%d", 1000+i)
		f, err := z.Create(id + ".json")
		if err == nil {
			_, err = fmt.Fprintf(f, `{"id":%q,"modified":"2026-11-2%dT00:00:00Z","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
				"affected":[{"package":{"ecosystem":"npm","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"9.0.0"}]}]}]}`, id, i%9, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	p.archive.Store(&data)
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "npm/all.zip") {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(*p.archive.Load())
}

func (p *publisher) build(t testing.TB, data, source string, names ...string) {
	t.Helper()
	p.publish(t, names...)
	if _, err := intel.Build(t.Context(), intel.Options{Data: data, Source: source, Ecosystems: []string{"npm"}, Program: "test"}); err != nil {
		t.Fatal(err)
	}
}

func npmReport(digest string, names ...string) report.Report {
	r := storetest.Report(digest, time.Now())
	r.Packages, r.Findings, r.Verdict = nil, nil, nil
	for _, n := range names {
		r.Packages = append(r.Packages, event.Package{Name: n, Version: "1.0.0", Ecosystem: "npm", PURL: "pkg:npm/" + n + "@1.0.0", Path: "app/node_modules/" + n})
	}
	return r
}

// TestNewIntelligenceTurnsARunningImage: nothing is pulled, the verdict
// changes, and who watches the console hears of it.
func TestNewIntelligenceTurnsARunningImage(t *testing.T) {
	data, p := t.TempDir(), &publisher{}
	upstream := httptest.NewServer(p)
	defer upstream.Close()
	p.build(t, data, upstream.URL, "left-pad")
	dir := t.TempDir()
	s := start(t, dir, func(o *server.Options) {
		o.Intelligence, o.Policies = data, []byte(strings.Replace(onePolicy, "medium", "high", 1))
	})
	me, err := s.EnrolLocal(t.Context(), "harbour-1", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	excluding := npmReport(storetest.Digest("c"), "lodash")
	excluding.Excluded = []event.Finding{{ID: "CVE-2026-1001", Package: excluding.Packages[0], VEX: &event.Statement{Status: "not_affected", Document: "ours"}}}
	excluding.Gaps = []string{"something could not be read."}
	var records []api.Record
	m, err := intel.Verify(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []report.Report{npmReport(storetest.Digest("a"), "lodash", "other"), npmReport(storetest.Digest("b"), "express"), excluding} {
		r.Intelligence = m.Intelligence()
		records = append(records, storetest.Record(t, uint64(i+1), api.RecordReport, fmt.Sprint("r", i), r))
	}
	err = s.Ingest(t.Context(), storetest.Batch(me.Agent, records...))
	if err != nil {
		t.Fatal(err)
	}
	st := event.HostStatus{Host: "harbour-1"}
	for i := range 2 {
		st.Containers = append(st.Containers, event.Guarded{Container: event.Container{ID: fmt.Sprint("c", i), Name: fmt.Sprint("web-", i), Image: event.Image{Digest: storetest.Digest("a")}}, Mode: "enforce"})
	}
	if _, err := s.Status(t.Context(), me.Agent, st); err != nil {
		t.Fatal(err)
	}
	p.build(t, data, upstream.URL, "left-pad", "lodash")
	incident := eventually(t, func() (store.Incident, error) {
		all, err := s.Store().Incidents(t.Context(), store.IncidentFilter{})
		if err != nil || len(all) != 1 {
			return store.Incident{}, fmt.Errorf("%d incidents %v", len(all), err)
		}
		return all[0], nil
	})
	if incident.Host != "harbour-1" || incident.Container.Name != "web-0" || !strings.Contains(incident.Sentence, "CVE-2026-1001") || !strings.Contains(incident.Sentence, "1 more container") || incident.Decision.Policy != "strict-images" {
		t.Errorf("%+v", incident)
	}
	eventually(t, func() (struct{}, error) { // it is all done
		v, err := s.Store().MatchedBy(t.Context())
		if now, nowErr := intel.Verify(data); err != nil || nowErr != nil || now.Version != v {
			err = fmt.Errorf("judged by %s of %s: %v %v", v, now.Version, err, nowErr)
			return struct{}{}, err
		}
		return struct{}{}, nil
	})
	changes, err := s.Store().Events(t.Context(), store.EventFilter{Kind: event.KindImage})
	if err != nil || len(changes) != 1 || changes[0].Image.Image.Digest != storetest.Digest("a") || !changes[0].Image.WasAllowed {
		t.Errorf("%+v %v", changes, err)
	}
	img, rep, err := s.Store().Image(t.Context(), storetest.Digest("c"))
	if err != nil || len(rep.Findings) != 0 || len(rep.Excluded) != 1 || rep.Excluded[0].VEX.Document != "ours" || !img.Verdict.Allowed || len(rep.Gaps) == 0 || rep.Gaps[0] != "something could not be read." {
		t.Errorf("what a statement excluded: %+v %+v %v", img.Verdict, rep, err)
	}
	if img, _, err := s.Store().Image(t.Context(), storetest.Digest("b")); err != nil || img.Matched.IsZero() {
		t.Errorf("the one that did not change: %+v %v", img, err)
	}
	s.stop() // the same bundle says the same after a restart
	again := start(t, dir, func(o *server.Options) { o.Intelligence = data })
	if all, err := again.Store().Events(t.Context(), store.EventFilter{Kind: event.KindImage}); err != nil || len(all) != 1 {
		t.Errorf("after a restart: %d changes %v", len(all), err)
	}
}

// TestNewIntelligenceInTheBrowser: who has the console open sees that a running
// image is refused now, without loading a page again.
func TestNewIntelligenceInTheBrowser(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	data, p := t.TempDir(), &publisher{}
	upstream := httptest.NewServer(p)
	defer upstream.Close()
	p.build(t, data, upstream.URL, "left-pad")
	s := start(t, t.TempDir(), func(o *server.Options) {
		o.Intelligence, o.Policies = data, []byte(strings.Replace(onePolicy, "medium", "high", 1))
	})
	me, err := s.EnrolLocal(t.Context(), "harbour-1", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := intel.Verify(data)
	if err != nil {
		t.Fatal(err)
	}
	rep := npmReport(storetest.Digest("a"), "lodash")
	rep.Intelligence = m.Intelligence()
	if err := s.Ingest(t.Context(), storetest.Batch(me.Agent, storetest.Record(t, 1, api.RecordReport, "r", rep))); err != nil {
		t.Fatal(err)
	}
	st := event.HostStatus{Host: "harbour-1", Containers: []event.Guarded{{Container: event.Container{ID: "c1", Name: "web-1", Image: event.Image{Digest: storetest.Digest("a")}}, Mode: "enforce"}}}
	if _, err := s.Status(t.Context(), me.Agent, st); err != nil {
		t.Fatal(err)
	}
	bad := complaints(t, ctx)
	do(t, ctx, logIn(s), chromedp.Click(`nav a[href="/incidents"]`), chromedp.WaitVisible(`bw-live`))
	get(t, ctx, chromedp.Poll[bool](`document.querySelector("bw-live").stream?.readyState === 1`))
	p.build(t, data, upstream.URL, "left-pad", "lodash")
	do(t, ctx, chromedp.WaitVisible(`bw-live.fresh a.button`), chromedp.Click(`bw-live a.button`), chromedp.WaitVisible(`tbody tr`))
	if text := get(t, ctx, chromedp.Text(`main`)); !strings.Contains(text, "web-1") || !strings.Contains(text, "CVE-2026-1001") || !strings.Contains(text, "refuses now") {
		t.Errorf("incidents: %s", text)
	}
	do(t, ctx, chromedp.Navigate(s.URL()+"/images/"+storetest.Digest("a")), chromedp.WaitVisible(`.reasons`))
	if text := get(t, ctx, chromedp.Text(`main`)); !strings.Contains(text, "CVE-2026-1001") {
		t.Errorf("image page: %s", text)
	}
	if all := bad(); len(all) > 0 {
		t.Errorf("the browser complains: %q", all)
	}
}

// BenchmarkNewIntelligence is the time from a new bundle on disk to every one
// of BENCH_IMAGES (1000) images of 60 packages being judged by it, one of a
// hundred by another finding.
func BenchmarkNewIntelligence(b *testing.B) {
	images := 1000
	if n, err := strconv.Atoi(os.Getenv("BENCH_IMAGES")); err == nil {
		images = n
	}
	data, p := b.TempDir(), &publisher{}
	upstream := httptest.NewServer(p)
	defer upstream.Close()
	p.build(b, data, upstream.URL, "left-pad")
	s := start(b, b.TempDir(), func(o *server.Options) { o.Intelligence = data })
	var records []api.Record
	for i := range images {
		var names []string
		for k := range 50 {
			names = append(names, fmt.Sprintf("base-%d", k))
		}
		for k := range 10 {
			names = append(names, fmt.Sprintf("own-%d-%d", i%100, k))
		}
		r := npmReport(fmt.Sprintf("sha256:%064x", i+1), names...)
		m, err := intel.Verify(data)
		if err != nil {
			b.Fatal(err)
		}
		r.Intelligence = m.Intelligence()
		if records = append(records, storetest.Record(b, uint64(i+1), api.RecordReport, fmt.Sprint(i), r)); len(records) == 200 || i == images-1 {
			if _, err := s.Store().Ingest(b.Context(), storetest.Batch("a1", records...)); err != nil {
				b.Fatal(err)
			}
			records = nil
		}
	}
	matched := func(want string) {
		for {
			if v, err := s.Store().MatchedBy(b.Context()); err != nil {
				b.Fatal(err)
			} else if v == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	version := func() string {
		m, err := intel.Verify(data)
		if err != nil {
			b.Fatal(err)
		}
		return m.Version
	}
	matched(version())
	names := []string{"left-pad"}
	for b.Loop() {
		names = append(names, fmt.Sprintf("own-%d-0", len(names)%100))
		p.build(b, data, upstream.URL, names...)
		matched(version())
	}
}
