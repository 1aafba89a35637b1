package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// audit returns what is wrong with the page for people who read it with other
// senses or without a mouse. The measures are WCAG 2.2's, level AA.
const audit = `(() => {
	const wrong = [];
	const say = (what, e) => wrong.push(what + ": " + (e ? e.outerHTML.slice(0, 120) : ""));
	const shown = (e) => e.checkVisibility({visibilityProperty: true});
	const name = (e) => (e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || e.title || "").trim();
	if (document.documentElement.lang !== "en") say("no language");
	if (!/^.+ · Breakwater$/.test(document.title)) say("title " + document.title);
	for (const [landmark, most] of [["main", 1], ["header.rail", 1], ["header nav", 1], ["[role=search]", 1]]) {
		const n = document.querySelectorAll(landmark).length;
		if (n > most || landmark === "main" && n !== 1) say(n + " of " + landmark);
	}
	for (const nav of document.querySelectorAll("nav")) if (!nav.getAttribute("aria-label")) say("nav without name", nav);
	const stray = [...document.body.children].filter((e) => !e.matches("header, main, .skip, [role=search]") && shown(e));
	stray.forEach((e) => say("outside every landmark", e));
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => say("id twice " + id));
	let level = 0;
	const headings = [...document.querySelectorAll("h1, h2, h3, h4")];
	if (document.querySelectorAll("h1").length !== 1) say(document.querySelectorAll("h1").length + " h1");
	for (const h of headings) {
		const next = Number(h.tagName[1]);
		if (next > level + 1) say("heading skips from " + level, h);
		if (!h.textContent.trim()) say("empty heading", h);
		level = next;
	}
	for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href], summary")) {
		if (!name(e)) say("no name", e);
		if (e.tabIndex > 0) say("own tab order", e);
	}
	for (const img of document.querySelectorAll("img, svg[role=img]")) if (!img.hasAttribute("alt") && !img.getAttribute("aria-label")) say("no alt", img);
	for (const table of document.querySelectorAll("table")) {
		const heads = [...table.querySelectorAll("thead th")];
		if (!heads.length) say("table without heads", table);
		heads.filter((th) => !th.textContent.trim()).forEach((th) => say("empty head", th));
		heads.filter((th) => th.scope !== "col").forEach((th) => say("head without scope", th));
		for (const tr of table.querySelectorAll("tbody tr")) {
			const cells = [...tr.cells].reduce((n, td) => n + td.colSpan, 0);
			if (cells !== heads.length) say(cells + " cells under " + heads.length + " heads", tr);
		}
	}
	for (const box of document.querySelectorAll("*")) {
		const s = getComputedStyle(box);
		const scrolls = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(s.overflowX) || box.scrollHeight > box.clientHeight + 1 && /auto|scroll/.test(s.overflowY);
		if (scrolls && box !== document.documentElement && !box.matches("textarea, select, .rail") && box.tabIndex < 0 && !box.querySelector("a, button")) say("cannot be scrolled by keys", box);
	}
	const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgba = (colour) => {
		canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
		return [...canvas.getImageData(0, 0, 1, 1).data];
	};
	const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgba(getComputedStyle(e).backgroundColor);
			if (c[3] > 250) return c;
		}
		return rgba("Canvas");
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const seen = new Set();
	let n;
	while ((n = texts.nextNode())) {
		const e = n.parentElement;
		if (seen.has(e) || !n.textContent.trim() || !shown(e) || e.matches("script, option")) continue;
		seen.add(e);
		const s = getComputedStyle(e), a = luminance(rgba(s.color)), b = luminance(ground(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const large = parseFloat(s.fontSize) >= 24 || parseFloat(s.fontSize) >= 18.66 && s.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) say("contrast " + ratio.toFixed(2), e);
	}
	for (const e of document.querySelectorAll("input:not([type=hidden]):not([type=checkbox]):not([type=file]), select, textarea")) {
		const a = luminance(rgba(getComputedStyle(e).borderTopColor)), b = luminance(ground(e.parentElement));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (shown(e) && ratio < 3) say("edge of a field has contrast " + ratio.toFixed(2), e);
	}
	for (const e of document.querySelectorAll("button, select, input:not([type=hidden]), .button, nav a")) {
		const r = e.getBoundingClientRect();
		if (shown(e) && (r.width < 24 || r.height < 24) && !e.matches("[type=checkbox]")) say("target of " + r.width + " by " + r.height, e);
	}
	if (document.documentElement.scrollWidth > document.documentElement.clientWidth) say("wider than its window");
	return JSON.stringify(wrong);
})()`

// everyPage lists each kind of page that the console has, with data.
func everyPage(agent string) map[string]string {
	return map[string]string{"overview": "/", "incidents": "/incidents", "filtered": "/incidents?severity=critical&host=nowhere", "incident": "/incidents/1", "refused": "/incidents/4", "hostile": "/incidents/6",
		"images": "/images", "image": "/images/" + storetest.Digest("a"), "policies": "/policies", "policy": "/policies/baseline-run", "edit": "/policies/baseline-run/edit",
		"new policy": "/new-policy", "hosts": "/hosts", "host": "/hosts/" + agent, "audit": "/audit", "search": "/search?q=web", "nothing found": "/search?q=zzzz", "missing": "/incidents/999",
		"where": "/where?kind=vulnerability&name=CVE-2024-3094", "where asked": "/where", "registries": "/registries"}
}

// TestEveryPageIsAccessible looks at every page, with data and without, in both
// themes, on a desk and on a phone.
func TestEveryPageIsAccessible(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	empty := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	do(t, ctx, chromedp.Navigate(s.URL()+"/login"))
	inspect(t, ctx, "login")
	do(t, ctx, logIn(s))
	eachLook(t, ctx, func(look string) {
		for name, path := range everyPage(agent) {
			do(t, ctx, chromedp.Navigate(s.URL()+path))
			inspect(t, ctx, name+" "+look)
		}
	})
	do(t, ctx, chromedp.Navigate(empty.URL()+"/login"), logIn(empty))
	for _, path := range []string{"/", "/incidents", "/images", "/policies", "/hosts", "/audit", "/search"} {
		do(t, ctx, chromedp.Navigate(empty.URL()+path))
		inspect(t, ctx, "empty "+path)
	}
}

// storm is a site in trouble: hundreds of incidents and images, names as long
// as they can be, a tree of forty processes, an agent that went away, images
// that were read without intelligence.
func storm(t testing.TB, s *server.Server) {
	t.Helper()
	agent, gone := harbour(t, s), event.HostStatus{Host: strings.Repeat("very-long-host-name-", 12)}
	long := strings.Repeat("a-name-without-end-", 30)
	var records []api.Record
	for i := range 260 {
		inc := drift(fmt.Sprint("storm", i))
		inc.Container.Name, inc.Sentence = fmt.Sprint(long, i), "`/tmp/"+long+"` was run in `"+long+"`; Breakwater killed it before its first instruction."
		inc.Decision.Policy, inc.Decision.Rule = "baseline-advice, baseline-run, payments", "run.network.egress"
		for depth := range 40 {
			inc.Tree = append(inc.Tree, event.Process{ID: fmt.Sprint(depth), ParentID: fmt.Sprint(depth - 1), PID: depth, Path: "/bin/" + long, Args: []string{long}})
		}
		records = append(records, storetest.Record(t, uint64(1000+i), api.RecordIncident, inc.Key, inc))
		r := clean()
		r.Image.Digest, r.Intelligence = fmt.Sprintf("sha256:%064x", i), nil
		r.Target, r.Image.References = long, []string{fmt.Sprint(long, ":", i)}
		records = append(records, storetest.Record(t, uint64(5000+i), api.RecordReport, fmt.Sprint("storm", i), r))
	}
	if err := s.Ingest(t.Context(), storetest.Batch(agent, records...)); err != nil {
		t.Fatal(err)
	}
	enrolled, err := s.EnrolLocal(t.Context(), "gone", nkey(t))
	if err != nil {
		t.Fatal(err)
	}
	gone.Containers = append(gone.Containers, event.Guarded{Container: event.Container{ID: strings.Repeat("9", 64), Name: long}, Mode: "enforce", Policies: []string{"baseline-run"}})
	gone.Problems = []string{"policy generation 7 cannot be enforced: " + long}
	if _, err := s.Status(t.Context(), enrolled.Agent, gone); err != nil {
		t.Fatal(err)
	}
}

var stormPages = map[string]string{"storm-overview": "/", "storm-incidents": "/incidents", "storm-incident": "/incidents/40", "storm-images": "/images?offset=50",
	"storm-image": fmt.Sprintf("/images/sha256:%064x", 3), "storm-policies": "/policies", "storm-policy": "/policies/baseline-run", "storm-hosts": "/hosts", "storm-search": "/search?q=without"}

// TestStorm looks at pages that are as full as they get.
func TestStorm(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	storm(t, s.Server)
	do(t, ctx, chromedp.Navigate(s.URL()+"/login"), logIn(s))
	eachLook(t, ctx, func(look string) {
		for name, path := range stormPages {
			do(t, ctx, chromedp.Navigate(s.URL()+path))
			inspect(t, ctx, name+" "+look)
			keep(t, ctx, name+"-"+strings.ReplaceAll(look, " ", "-"))
		}
	})
}

func eachLook(t *testing.T, ctx context.Context, each func(look string)) {
	t.Helper()
	for _, width := range []int64{1280, 390} {
		for _, theme := range []string{"light", "dark"} {
			media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
				t.Fatal(err)
			}
			do(t, ctx, chromedp.EmulateViewport(width, 900))
			each(fmt.Sprintf("%d %s", width, theme))
		}
	}
}

// inspect reports what is wrong with the page that is shown.
func inspect(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	do(t, ctx, chromedp.WaitVisible(`main h1`))
	var wrong []string
	if err := json.Unmarshal([]byte(get(t, ctx, chromedp.Evaluate[string](audit))), &wrong); err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Errorf("%s: %s", name, w)
	}
}

// TestKeysReachEverything walks through a page by the Tab key: the way past
// the navigation comes first, the focus can always be seen and goes down the
// page as it is read.
func TestKeysReachEverything(t *testing.T) {
	ctx := testenv.NeedChromium(t)
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	harbour(t, s.Server)
	do(t, ctx, logIn(s), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL()+"/incidents"), chromedp.WaitVisible(`main h1`))
	const where = `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
		return [e.className || e.name || e.getAttribute("href") || e.textContent.trim(), s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2, r.right > 0 && r.bottom > 0].join("|"); })()`
	var order []string
	for range 24 {
		do(t, ctx, chromedp.KeyEvent("\t"))
		at := get(t, ctx, chromedp.Evaluate[string](where))
		order = append(order, at)
		if !strings.HasSuffix(at, "|true|true") {
			t.Errorf("the focus cannot be seen: %s", at)
		}
	}
	all := strings.Join(order, "\n")
	last := -1
	for _, stop := range []string{"skip|", "brand|", "/incidents|", "theme|", "q|", "outcome|", "severity|", "text|"} {
		i := strings.Index(all, stop)
		if i < last || i < 0 {
			t.Errorf("%q is out of order in\n%s", stop, all)
		}
		last = i
	}
	if !strings.HasPrefix(all, "skip|") {
		t.Errorf("the first stop is %s", order[0])
	}
}
