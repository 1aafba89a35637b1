package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// oneAdvisory serves a mirror with a single advisory, of lodash.
func oneAdvisory(t *testing.T) string {
	t.Helper()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	f, err := z.Create("CVE-2026-2000.json")
	if err == nil {
		_, err = f.Write([]byte(`{"id":"CVE-2026-2000","modified":"2026-11-20T00:00:00Z","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
			"affected":[{"package":{"ecosystem":"npm","name":"lodash"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"9.0.0"}]}]}]}`))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "npm/all.zip") {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(archive.Bytes())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestUpHeedsVEXDocuments: an image that the gate refuses for a vulnerability may
// start once an administrator's document says that it is not affected, also while
// no agent lives; taken back, it may not.
func TestUpHeedsVEXDocuments(t *testing.T) {
	h := newWholeHost(t)
	shop := h.engine.BuildImage(t, "shop:1", "FROM "+h.image+"\nCOPY package.json /srv/node_modules/lodash/package.json\n",
		map[string][]byte{"package.json": []byte(`{"name":"lodash","version":"1.0.0"}`)})
	if _, err := intel.Build(t.Context(), intel.Options{Data: h.data, Source: oneAdvisory(t), Ecosystems: []string{"npm"}, Program: "test"}); err != nil {
		t.Fatal(err)
	}
	h.start("--gate=yes")
	h.until("the host has the intelligence", func() bool { return h.status().Intelligence != "" })
	h.apply(contentPolicy("no-vulnerabilities", "maxSeverity: medium"))
	h.refusedFor("shop:1", "CVE-2026-2000", "image.maxSeverity")
	runs := func() bool {
		_, _, code := h.engine.Run("run", "--rm", "--network=none", "shop:1", "true")
		return code == 0
	}
	document := fmt.Sprintf(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://shop.example/vex/1","author":"Shop security","timestamp":"2026-11-01T00:00:00Z","version":1,"statements":[
		{"vulnerability":{"name":"CVE-2026-2000"},"products":[{"@id":%q,"subcomponents":[{"@id":"pkg:npm/lodash"}]}],"status":"not_affected","justification":"vulnerable_code_not_in_execute_path"}]}`, shop)
	var all struct{ Items []store.VEXDocument }
	if err := h.api(http.MethodPut, "/api/v1/vex/shop.json?reason=we+looked", []byte(document), &all); err != nil || len(all.Items) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	h.until("the gate lets it start", runs)
	h.until("the server shows who says so", func() bool {
		r := h.reportAt(shop)
		return len(r.Excluded) == 1 && len(r.Findings) == 0 && r.Excluded[0].VEX != nil && r.Excluded[0].VEX.Author == "Shop security"
	})
	h.engine.MustRun(t, "run", "-d", "--name=shop", "--network=none", "shop:1", "sleep", "1000")
	h.until("the agent has judged it, and allows it", func() bool {
		for _, g := range h.status().Containers {
			if g.Container.Name == "shop" && g.Verdict != nil {
				return g.Verdict.Allowed
			}
		}
		return false
	})

	h.kill()
	h.engine.MustRun(t, "run", "--rm", "--network=none", "shop:1", "true")
	h.start("--gate=yes")
	if err := h.api(http.MethodDelete, "/api/v1/vex/shop.json?reason=wrong", nil, nil); err != nil {
		t.Fatal(err)
	}
	h.until("the gate refuses it again", func() bool { return !runs() })
	h.refusedFor("shop:1", "CVE-2026-2000", "image.maxSeverity")
	h.until("the agent says that policy refuses what runs", func() bool {
		for _, g := range h.status().Containers {
			if g.Container.Name == "shop" && g.Verdict != nil && !g.Verdict.Allowed {
				return len(g.Verdict.Violations) > 0 && strings.Contains(g.Verdict.Violations[0].Message, "CVE-2026-2000")
			}
		}
		return false
	})
	if r := h.reportAt(shop); len(r.Findings) != 1 || len(r.Excluded) != 0 || r.Findings[0].Severity != event.SeverityCritical {
		t.Errorf("without the document: %+v, excluded %+v", r.Findings, r.Excluded)
	}
}
