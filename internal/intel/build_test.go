package intel_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// publisher serves the mirror's files from memory, so that a test can change
// one, and counts what is asked of it.
type publisher struct {
	*httptest.Server
	mu    sync.Mutex // guards everything that follows
	files map[string]string
	down  map[string]int // path → status to answer with
	full  map[string]int // path → times served with a body
	agent string
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{files: map[string]string{}, down: map[string]int{}, full: map[string]int{}}
	root := filepath.Join("testdata", "mirror")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		p.files[strings.TrimPrefix(path, root)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.agent = r.UserAgent()
	body, ok := p.files[r.URL.Path]
	etag := fmt.Sprintf(`"%d-%d"`, len(body), checksum(body))
	switch {
	case p.down[r.URL.Path] != 0:
		w.WriteHeader(p.down[r.URL.Path])
	case !ok:
		http.NotFound(w, r)
	case r.Header.Get("If-None-Match") == etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		p.full[r.URL.Path]++
		w.Header().Set("ETag", etag)
		_, _ = w.Write([]byte(body))
	}
}

func checksum(s string) (sum uint32) {
	for i := range len(s) {
		sum = sum*31 + uint32(s[i])
	}
	return sum
}

func (p *publisher) set(path, content string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if dir, ok := strings.CutSuffix(path, "all.zip"); ok {
		delete(p.files, dir+"modified_id.csv") // of the records before
	}
	p.files[path] = content
}

func (p *publisher) fail(path string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down[path] = status
}

func build(t *testing.T, o intel.Options) intel.Manifest {
	t.Helper()
	if o.Program == "" {
		o.Program = "test"
	}
	m, err := intel.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t *testing.T, data string) *intel.Bundle {
	t.Helper()
	b, err := intel.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func source(t *testing.T, m intel.Manifest, name string) intel.Source {
	t.Helper()
	for _, s := range m.Sources {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no source %s in %+v", name, m.Sources)
	return intel.Source{}
}

var debian12 = report.Distro{ID: "debian", Version: "12", Codename: "bookworm"}

func deb(name, version string) event.Package {
	return event.Package{Name: name, Version: version, Ecosystem: "Debian:12"}
}

func npm(name, version string) event.Package {
	return event.Package{Name: name, Version: version, Ecosystem: "npm"}
}

func ids(findings []event.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, f.ID)
	}
	return strings.Join(out, " ")
}

func match(t *testing.T, b *intel.Bundle, pkgs ...event.Package) ([]event.Finding, []string) {
	t.Helper()
	findings, used, gaps, err := b.Match(t.Context(), debian12, pkgs)
	if err != nil {
		t.Fatal(err)
	}
	if used == nil || used.Version != b.Manifest().Version {
		t.Errorf("used = %+v", used)
	}
	return findings, gaps
}

func TestBuildOfAllSources(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	m := build(t, intel.Options{Data: data, Source: p.URL, Program: "1.2.3"})
	if got := source(t, m, "kev").Records; got != 5 {
		t.Errorf("kev records = %d", got)
	}
	if got := source(t, m, "debian").Ecosystems; got["Debian:12"] != 15 || got["Debian:11"] != 3 || got["Debian:sid"] != 1 {
		t.Errorf("debian = %v", got)
	}
	if got := source(t, m, "osv/npm"); got.Records != 5 || got.Updated.Format(time.DateOnly) != "2026-11-20" {
		t.Errorf("npm = %+v", got)
	}
	if p.agent != "breakwater/1.2.3" {
		t.Errorf("User-Agent = %q", p.agent)
	}
	if info, err := os.Stat(filepath.Join(data, "keys", "intel.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info, err)
	}
	if v, err := intel.Verify(data); err != nil || v.Version != m.Version {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

func TestMatchJoinsWhatPublishersSay(t *testing.T) {
	b := open(t, buildMirror(t))
	findings, gaps := match(t, b,
		event.Package{Name: "libc6", Version: "2.36-9+deb12u1", Ecosystem: "Debian:12", Source: "glibc", SourceVersion: "2.36-9+deb12u1"},
		npm("lodash", "4.17.4"),
		event.Package{Name: "golang.org/x/net", Version: "v0.16.0", Ecosystem: "Go"},
		event.Package{Name: "stdlib", Version: "go1.21.2", Ecosystem: "Go"})
	var got strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&got, "%s %s %s %s/%s %s %q exploited=%v %v\n", f.Package.Name, f.ID, f.Source, f.Severity, f.SeveritySource, f.State, f.FixedVersion, f.KnownExploited, f.Aliases)
	}
	want := `libc6 CVE-2018-20796 debian negligible/debian affected "" exploited=false []
libc6 CVE-2019-1010022 debian negligible/debian affected "" exploited=false []
libc6 CVE-2023-4911 debian high/cvss-v3 fixed "2.36-9+deb12u3" exploited=true []
libc6 CVE-2023-6246 debian high/cvss-v3 fixed "2.36-9+deb12u4" exploited=false []
lodash CVE-2019-10744 osv critical/ghsa fixed "4.17.12" exploited=false [GHSA-jf85-cpcp-j695 NSWG-ECO-516]
lodash CVE-2021-23337 osv high/ghsa fixed "4.17.21" exploited=false [GHSA-35jh-r3h4-6jhm]
golang.org/x/net CVE-2023-39325 osv high/ghsa fixed "0.17.0" exploited=false [GHSA-4374-p667-p6c8 GO-2023-2102]
golang.org/x/net CVE-2023-44487 osv medium/ghsa fixed "0.17.0" exploited=true [GHSA-qppj-fm5r-hxr3]
stdlib CVE-2023-39325 osv high/ghsa fixed "1.21.3" exploited=false [GHSA-4374-p667-p6c8 GO-2023-2102]
stdlib CVE-2024-24790 osv unknown/ fixed "1.21.11" exploited=false [GO-2024-2887]
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
	if len(gaps) != 0 {
		t.Errorf("gaps = %q", gaps)
	}
}

func buildMirror(t *testing.T) (data string) {
	t.Helper()
	data = t.TempDir()
	build(t, intel.Options{Data: data, Source: newPublisher(t).URL})
	return data
}

func TestMatchStates(t *testing.T) {
	b := open(t, buildMirror(t))
	for _, c := range []struct {
		pkg   event.Package
		ids   string
		state event.FixState
	}{
		{deb("zlib", "1:1.2.13.dfsg-1"), "CVE-2023-45853", event.FixWontFix},
		{deb("shadow", "1:4.13+dfsg1-1"), "CVE-2023-4641", event.FixDeferred},
		{deb("openssl", "3.0.11-1~deb12u2"), "CVE-2024-13176", event.FixAffected},
		{deb("xz-utils", "5.4.1-0.2"), "", ""},
		{deb("libwebp", "1.2.4-0.2+deb12u1"), "", ""},
		{deb("libwebp", "1.2.4-0.2"), "CVE-2023-4863", event.FixFixed},
		{npm("ua-parser-js", "0.7.29"), "GHSA-pjwm-rvh2-c87w", event.FixAffected},
		{npm("ua-parser-js", "0.7.30"), "", ""},
		{npm("minimist", "0.2.3"), "CVE-2021-44906", event.FixFixed},
		{npm("minimist", "0.2.4"), "", ""},
		{npm("minimist", "1.2.5"), "CVE-2021-44906", event.FixFixed},
	} {
		findings, _ := match(t, b, c.pkg)
		if ids(findings) != c.ids {
			t.Errorf("%s %s: %q, want %q", c.pkg.Name, c.pkg.Version, ids(findings), c.ids)
		} else if c.ids != "" && findings[0].State != c.state {
			t.Errorf("%s: state %q, want %q", c.pkg.Name, findings[0].State, c.state)
		}
	}
}

func TestMatchNamesItsGaps(t *testing.T) {
	b := open(t, buildMirror(t))
	_, _, gaps, err := b.Match(t.Context(), report.Distro{ID: "debian", Version: "10"}, []event.Package{
		{Name: "a", Version: "1", Ecosystem: "Debian"}, {Name: "b", Version: "1", Ecosystem: "Debian"},
		{Name: "c", Version: "1", Ecosystem: "PyPI"}, {Name: "golang.org/x/net", Version: "(devel)", Ecosystem: "Go"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Debian 10: no advisories in the bundle; 2 packages not judged", "PyPI: no advisories in the bundle; 1 package not judged",
		"Go: 1 package with a version that has no place in the ecosystem's order (golang.org/x/net (devel)); only exact versions were compared"}
	if !slices.Equal(gaps, want) {
		t.Errorf("gaps = %q", gaps)
	}
}

func TestOldDataAreAGap(t *testing.T) {
	data, p := t.TempDir(), newPublisher(t)
	build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return time.Now().Add(-9 * 24 * time.Hour) }})
	_, gaps := match(t, open(t, data), npm("lodash", "4.17.21"))
	if len(gaps) != 1 || !strings.Contains(gaps[0], "npm: the advisories are of ") || !strings.Contains(gaps[0], "9 days old") {
		t.Errorf("gaps = %q", gaps)
	}
}

// TestBuildIsReproducible: the same input gives the same bytes, whether it is
// fetched by another builder, carried over, or read again.
func TestBuildIsReproducible(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	first := build(t, intel.Options{Data: data, Source: p.URL})
	carried := build(t, intel.Options{Data: data, Source: p.URL})
	elsewhere := build(t, intel.Options{Data: t.TempDir(), Source: p.URL})
	if first.SHA256 != carried.SHA256 || first.SHA256 != elsewhere.SHA256 {
		t.Errorf("three bundles of one input: %s %s %s", first.SHA256, carried.SHA256, elsewhere.SHA256)
	}
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"X-1.json": record("X-1", "left-pad")})))
	changed := build(t, intel.Options{Data: data, Source: p.URL})
	fresh := build(t, intel.Options{Data: t.TempDir(), Source: p.URL})
	if changed.SHA256 == first.SHA256 || changed.SHA256 != fresh.SHA256 {
		t.Errorf("after a change: %s carried, %s fresh, %s before", changed.SHA256, fresh.SHA256, first.SHA256)
	}
}

func record(id, pkg string) string {
	return fmt.Sprintf(`{"id":%q,"modified":"2026-11-21T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":%q},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`, id, pkg)
}

func TestUnchangedFilesAreNotFetchedAgain(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	early := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return early }})
	m := build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return early.Add(time.Hour) }})
	for _, path := range []string{"/osv/npm/all.zip", "/debian/tracker.json", "/kev/known_exploited_vulnerabilities.json"} {
		if p.full[path] != 1 {
			t.Errorf("%s was served %d times", path, p.full[path])
		}
	}
	if got := source(t, m, "debian").Fetched; !got.Equal(early.Add(time.Hour)) {
		t.Errorf("the publisher confirmed the data, yet Fetched = %v", got)
	}
}

// TestOneBadSourceSpoilsNoOther goes through the ways in which a source is bad.
func TestOneBadSourceSpoilsNoOther(t *testing.T) {
	for name, spoil := range map[string]func(*publisher){
		"away":      func(p *publisher) { p.fail("/osv/npm/all.zip", http.StatusServiceUnavailable) },
		"gone":      func(p *publisher) { p.fail("/osv/npm/all.zip", http.StatusNotFound) },
		"no zip":    func(p *publisher) { p.set("/osv/npm/all.zip", "<html>sign in</html>") },
		"truncated": func(p *publisher) { p.set("/osv/npm/all.zip", p.files["/osv/npm/all.zip"][:900]) },
		"only junk": func(p *publisher) {
			p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"A.json": "{", "../../etc/passwd": "x"})))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, data := newPublisher(t), t.TempDir()
			early := time.Now().UTC().Add(-24 * time.Hour)
			build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return early }})
			spoil(p)
			m := build(t, intel.Options{Data: data, Source: p.URL})
			if failures := m.Failures(); len(failures) != 1 || failures[0].Name != "osv/npm" || failures[0].Error == "" {
				t.Fatalf("failures = %+v", failures)
			}
			if got := source(t, m, "osv/npm"); !got.Fetched.Equal(early) || got.Records != 5 {
				t.Errorf("kept = %+v", got)
			}
			if findings, _ := match(t, open(t, data), npm("minimist", "1.2.5")); ids(findings) != "CVE-2021-44906" {
				t.Errorf("findings = %q", ids(findings))
			}
		})
	}
}

// TestFirstBuildWithoutASource has nothing to keep: what is missing is a gap.
func TestFirstBuildWithoutASource(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	p.fail("/osv/npm/all.zip", http.StatusServiceUnavailable)
	build(t, intel.Options{Data: data, Source: p.URL})
	findings, gaps := match(t, open(t, data), npm("minimist", "1.2.5"), deb("libwebp", "1.2.4-0.2"))
	if ids(findings) != "CVE-2023-4863" || len(gaps) != 1 || !strings.HasPrefix(gaps[0], "npm: no advisories") {
		t.Errorf("findings %q, gaps %q", ids(findings), gaps)
	}
}

func TestMalformedRecordsAreLeftOutAndCounted(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{
		"A-1.json": record("A-1", "left-pad"), "A-2.json": record("A-2", "left-pad"), "A-3.json": record("A-3", "right-pad"), "A-4.json": record("A-4", "x"),
		"B-1.json": `{"id":`, "B-2.json": `{"id":""}`, "../../../tmp/evil.json": record("E-1", "left-pad"),
	})))
	m := build(t, intel.Options{Data: data, Source: p.URL})
	npmSource := source(t, m, "osv/npm")
	if npmSource.Records != 4 || npmSource.Skipped != 3 || len(npmSource.Examples) != 3 || npmSource.Error != "" {
		t.Errorf("npm = %+v", npmSource)
	}
	if !strings.Contains(npmSource.Examples[0], "the name is not ID.json") {
		t.Errorf("examples = %q", npmSource.Examples)
	}
	if findings, _ := match(t, open(t, data), npm("left-pad", "1.0.0")); ids(findings) != "A-1 A-2" {
		t.Errorf("findings = %q", ids(findings))
	}
}

// TestUnplaceableRangesAreCounted: such a range hides no other of its record.
func TestUnplaceableRangesAreCounted(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	bad := strings.Replace(record("A-1", "left-pad"), `"introduced":"0"`, `"introduced":"0"},{"fixed":"the next one"`, 1)
	good := strings.Replace(bad, `"affected":[`, `"affected":[{"package":{"ecosystem":"npm","name":"left-pad"},"versions":["1.0.0"]},`, 1)
	p.set("/osv/npm/all.zip", string(zipped(t, map[string]string{"A-1.json": good})))
	m := build(t, intel.Options{Data: data, Source: p.URL})
	if got := source(t, m, "osv/npm"); got.Skipped != 1 || got.Records != 1 || !strings.Contains(got.Examples[0], `"the next one" is not a version`) {
		t.Errorf("npm = %+v", got)
	}
	if findings, _ := match(t, open(t, data), npm("left-pad", "1.0.0"), npm("left-pad", "1.0.1")); ids(findings) != "A-1" {
		t.Errorf("findings = %q", ids(findings))
	}
}

func TestAllSourcesAway(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	m := build(t, intel.Options{Data: data, Source: p.URL})
	p.Close()
	_, err := intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"})
	if err == nil || !strings.Contains(err.Error(), "stays in use") || !strings.Contains(err.Error(), "debian: ") {
		t.Errorf("err = %v", err)
	}
	if v, err := intel.Verify(data); err != nil || v.Version != m.Version {
		t.Errorf("the bundle before: %+v, %v", v, err)
	}
}

func TestSourcesThatAreRefused(t *testing.T) {
	redirect := httptest.NewServer(http.RedirectHandler("http://198.51.100.7/x", http.StatusFound))
	t.Cleanup(redirect.Close)
	for source, want := range map[string]string{
		"http://mirror.example/a": "plain http is accepted from this host only",
		"ftp://mirror.example/a":  "not an https, file or loopback http address",
		"mirror.example":          "not an address such as",
		redirect.URL:              "plain http is accepted from this host only",
	} {
		_, err := intel.Build(t.Context(), intel.Options{Data: t.TempDir(), Source: source, Program: "test"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestEcosystemsByName(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	_, err := intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL, Ecosystems: []string{"Maven"}, Program: "test"})
	if err == nil || !strings.Contains(err.Error(), "does not offer it; it offers: Debian, Go, npm") {
		t.Errorf("err = %v", err)
	}
	_, err = intel.Build(t.Context(), intel.Options{Data: data, Source: p.URL, Ecosystems: []string{"../npm"}, Program: "test"})
	if err == nil || !strings.Contains(err.Error(), "not a name of an OSV ecosystem") {
		t.Errorf("err = %v", err)
	}
	m := build(t, intel.Options{Data: data, Source: p.URL, Ecosystems: []string{"all"}})
	if len(m.Sources) != 5 {
		t.Errorf("sources = %+v", m.Sources)
	}
}

// TestClockThatStandsStill: two bundles of one moment are two bundles.
func TestClockThatStandsStill(t *testing.T) {
	p, data, now := newPublisher(t), t.TempDir(), time.Now()
	for range 3 {
		build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return now }})
	}
	build(t, intel.Options{Data: data, Source: p.URL, Now: func() time.Time { return now.Add(-time.Hour) }})
	if b := open(t, data); !b.Manifest().Built.Equal(now.Add(-time.Hour)) {
		t.Errorf("built %v", b.Manifest().Built)
	}
}

func TestMatchAtOnce(t *testing.T) {
	b := open(t, buildMirror(t))
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			findings, _ := match(t, b, npm("lodash", fmt.Sprintf("4.17.%d", i)), deb("glibc", fmt.Sprintf("2.3%d-1", i%4)))
			if len(findings) != 6 {
				t.Errorf("%d: %q", i, ids(findings))
			}
		})
	}
	group.Wait()
}

func TestFolderAsSource(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join("testdata", "mirror"))
	if err != nil {
		t.Fatal(err)
	}
	m := build(t, intel.Options{Data: t.TempDir(), Source: "file://" + dir})
	if len(m.Failures()) != 0 || source(t, m, "osv/npm").Records != 5 {
		t.Errorf("sources = %+v", m.Sources)
	}
}

func TestOneBuilderAtATime(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	var second error
	build(t, intel.Options{Data: data, Source: p.URL, Progress: func(now intel.Progress) {
		if now.Source == "kev" && now.Stage == intel.StageDone {
			_, second = intel.Build(context.Background(), intel.Options{Data: data, Source: p.URL, Program: "test"})
		}
	}})
	if !errors.Is(second, intel.ErrBusy) {
		t.Errorf("a second builder: %v", second)
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	p, data := newPublisher(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := intel.Build(ctx, intel.Options{Data: data, Source: p.URL, Program: "test", Progress: func(now intel.Progress) {
		if now.Source == "debian" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if _, err := intel.Open(t.Context(), data); !errors.Is(err, intel.ErrNoBundle) {
		t.Errorf("Open = %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "intel", ".build-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
