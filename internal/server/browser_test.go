package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// complaints collects what the browser says of the pages: violations of the
// Content-Security-Policy, script errors, files that failed.
func complaints(t *testing.T, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *log.EventEntryAdded:
			all = append(all, e.Entry.Text+" "+e.Entry.URL)
		case *runtime.EventExceptionThrown:
			all = append(all, e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			all = append(all, "console: "+string(e.Type))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// do runs steps in the browser, or ends the test.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// get reads something from the page, or ends the test.
func get[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func logIn(s *running) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.Navigate(s.URL()+"/"),
		chromedp.WaitVisible(`input[name=password]`),
		chromedp.SendKeys(`input[name=name]`, "admin"),
		chromedp.SendKeys(`input[name=password]`, s.FirstPassword()),
		chromedp.Click(`.login button`),
		chromedp.WaitVisible(`.rail`),
	)
}

// TestANewUserInTheBrowser logs in, watches an incident arrive without any row
// moving, reads why it was stopped, and why an image is refused.
func TestANewUserInTheBrowser(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	agent := harbour(t, s.Server)
	bad := complaints(t, ctx)
	do(t, ctx, logIn(s), chromedp.Click(`nav a[href="/incidents"]`), chromedp.WaitVisible(`bw-live`))
	do(t, ctx, chromedp.KeyEvent("/"))
	if at := get(t, ctx, chromedp.Evaluate[string](`document.activeElement.id`)); at != "search" {
		t.Errorf("the search key leads to %q", at)
	}
	get(t, ctx, chromedp.Poll[bool](`document.querySelector("bw-live").stream?.readyState === 1`))
	const countRows = `document.querySelectorAll("tbody tr").length`
	rows := get(t, ctx, chromedp.Evaluate[int](countRows))
	if err := s.Ingest(t.Context(), storetest.Batch(agent, storetest.Record(t, 99, api.RecordIncident, "new", drift("new")))); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible(`bw-live.fresh a.button`))
	live, after := get(t, ctx, chromedp.Text(`bw-live`)), get(t, ctx, chromedp.Evaluate[int](countRows))
	if !strings.HasPrefix(live, "1 new incident") || rows != after {
		t.Errorf("live line %q, rows %d then %d", live, rows, after)
	}
	do(t, ctx, chromedp.Click(`bw-live a.button`), chromedp.WaitVisible(`a.plain[href="/incidents/7"]`),
		chromedp.Click(`a.plain[href="/incidents/7"]`), chromedp.WaitVisible(`.tree .target`))
	story, reasons := get(t, ctx, chromedp.Text(`h1`)), get(t, ctx, chromedp.Text(`.reasons`))
	do(t, ctx, chromedp.Click(`.reasons a`), chromedp.WaitVisible(`.source li:target`))
	line := get(t, ctx, chromedp.Text(`.source li:target code`))
	if !strings.Contains(story, "/tmp/xmrig was written into web-1") || !strings.Contains(reasons, "run.exec.drift") || !strings.Contains(line, "drift: block") {
		t.Errorf("story %q\nreasons %q\nline %q", story, reasons, line)
	}
	do(t, ctx, chromedp.Navigate(s.URL()+"/images/"+storetest.Digest("a")), chromedp.WaitVisible(`.reasons`))
	if verdict := get(t, ctx, chromedp.Text(`main`)); !strings.Contains(verdict, "CVE-2024-3094") || !strings.Contains(verdict, "USER 10001") {
		t.Errorf("image page: %s", verdict)
	}
	if all := bad(); len(all) > 0 {
		t.Errorf("the browser complains: %q", all)
	}
}

// TestScreenshots photographs every page into BREAKWATER_SCREENSHOTS, for
// people to look at; without that folder it only checks that no page is wider
// than its window, in both themes.
func TestScreenshots(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies, o.Intelligence = baseline(t), indicators(t) })
	agent := harbour(t, s.Server)
	promoteSome(t, s)
	if err := s.Ingest(t.Context(), storetest.Batch(agent, breakIn(t)...)); err != nil {
		t.Fatal(err)
	}
	exceptSome(t, s, agent)
	bad := complaints(t, ctx)
	do(t, ctx, chromedp.Navigate(s.URL()+"/"))
	photograph(t, ctx, s.URL()+"/login", "login-390-light", 390, "light")
	do(t, ctx, logIn(s))
	pages := map[string]string{"overview": "/", "incidents": "/incidents", "incident": "/incidents/1", "refused": "/incidents/4", "hostile": "/incidents/6", "story": "/incidents/7", "detections": "/detections", "detection": "/detections/network-tool", "step": "/incidents/8",
		"images": "/images", "image": "/images/" + storetest.Digest("a"), "policies": "/policies", "policy": "/policies/baseline-run?version=1#L9", "edit": "/policies/baseline-run/edit",
		"hosts": "/hosts", "host": "/hosts/" + agent, "audit": "/audit", "search": "/search?q=web", "missing": "/incidents/999",
		"where": "/where?kind=vulnerability&name=CVE-2024-3094", "where-secret": "/where?kind=secret", "registries": "/registries", "registry": "/registries/harbour", "intelligence": "/intelligence"}
	putRegistry(t, admin(t, s), map[string]any{"address": "127.0.0.1:1", "repositories": []string{"team/app", "team/*"}, "every": "6h"})
	for _, width := range []int64{390, 1280, 2560} {
		for _, theme := range []string{"light", "dark"} {
			for name, path := range pages {
				photograph(t, ctx, s.URL()+path, fmt.Sprintf("%s-%d-%s", name, width, theme), width, theme)
			}
		}
	}
	for _, c := range bad() {
		if !strings.Contains(c, "404") { // the missing page
			t.Errorf("the browser complains: %q", c)
		}
	}
}

// indicators is a data folder whose bundle brought some.
func indicators(t *testing.T) string {
	t.Helper()
	data, list := t.TempDir(), filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("192.0.2.7\n198.51.100.0/24\n2001:db8:1234:5678:9abc:def0:1234:5678\nevil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Import(t.Context(), intel.ImportOptions{Data: data, From: list, Name: "ours", Program: "test"}); err != nil {
		t.Fatal(err)
	}
	return data
}

func promoteSome(t *testing.T, s *running) {
	t.Helper()
	eventually(t, func() (struct{}, error) {
		return struct{}{}, s.Promote(t.Context(), store.Promotion{Promotion: api.Promotion{Kind: api.PromoteIndicator, Source: "list/ours", Ends: time.Now().AddDate(0, 1, 0)}, Reason: "seen in an attack on a neighbour"}, store.Actor{Name: "admin"})
	})
	if err := s.Promote(t.Context(), store.Promotion{Promotion: api.Promotion{Kind: api.PromoteDetection, Value: "odd-shell"}, Reason: "no container of ours does that"}, store.Actor{Name: "admin"}); err != nil {
		t.Fatal(err)
	}
}

func photograph(t *testing.T, ctx context.Context, url, name string, width int64, theme string) {
	t.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(url), chromedp.WaitVisible(`h1, h2`))
	if get(t, ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`)) {
		t.Errorf("%s: the page is wider than its window", name)
	}
	keep(t, ctx, name)
}

// keep photographs the page that is shown, where that is wanted.
func keep(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("BREAKWATER_SCREENSHOTS")
	if dir == "" {
		return
	}
	shot := get(t, ctx, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644); err != nil {
		t.Error(err)
	}
}
