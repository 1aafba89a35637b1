package agent_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// beat makes the agent report to the server now, instead of in ten seconds.
func (s *site) beat() { s.agent.Probed(event.Doctor{}) }

func (s *site) trustIntelligence(server string) {
	s.t.Helper()
	key, err := intel.TrustedKey(server)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := intel.Trust(s.dir, key); err != nil {
		s.t.Fatal(err)
	}
}

// TestIntelligenceFromServer: the agent fetches what the server hands out, uses
// it without a restart for the images it knows, and says which one it has; what
// is not signed by the key it was enrolled with it refuses, and says so.
func TestIntelligenceFromServer(t *testing.T) {
	server := inteltest.Data(t)
	s := newSite(t)
	s.trustIntelligence(server)
	rep := report.Report{Schema: report.SchemaVersion, Time: time.Now().UTC().Add(-time.Hour), Image: event.Image{Digest: digest, References: []string{"demo:1"}},
		Gaps: []string{"layer 0: cannot be read", "no intelligence bundle"}, Unmatched: []string{"no intelligence bundle"}, Looked: []string{event.LookedSecrets},
		Packages: []event.Package{{Name: "minimist", Version: "1.2.5", PURL: "pkg:npm/minimist@1.2.5", Ecosystem: "npm"}}}
	raw, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	s.write(api.DirReports+"/"+strings.TrimPrefix(digest, "sha256:")+".json", raw)
	s.start()
	if st := s.agent.Status(); st.Intelligence != "" {
		t.Fatalf("it has intelligence %q from nowhere", st.Intelligence)
	}
	s.uplink.handOut(t, server, true)
	s.beat()
	s.until("the forged bundle is told of", func() bool { return strings.Contains(s.problems(), "not signed by the key") })
	if id, _ := intel.Current(s.dir); id != "" {
		t.Fatal("the forged bundle is in use")
	}

	// What failed is not tried again at once; another bundle is.
	if _, err := intel.Build(t.Context(), intel.Options{Data: server, Source: inteltest.Serve(t), Program: "test"}); err != nil {
		t.Fatal(err)
	}
	id := s.uplink.handOut(t, server, false)
	m, err := intel.Verify(server)
	if err != nil {
		t.Fatal(err)
	}
	s.until("the bundle is in use", func() bool {
		s.beat() // a server that was away is asked again at the next
		st := s.agent.Status()
		return st.Intelligence == m.Version && st.IntelligenceBuilt.Equal(m.Built)
	})
	if have, err := intel.Current(s.dir); err != nil || have != id {
		t.Errorf("on disk is %s: %v", have, err)
	}
	s.until("the image is judged again", func() bool {
		for _, r := range s.uplink.of(api.RecordReport) {
			var got report.Report
			if json.Unmarshal(r.Body, &got) == nil && got.Intelligence != nil && got.Intelligence.Version == m.Version && len(got.Findings) > 0 {
				if g := strings.Join(got.Gaps, "; "); !strings.Contains(g, "layer 0: cannot be read") || strings.Contains(g, "no intelligence bundle") || len(got.Looked) != 1 {
					t.Errorf("gaps %q, looked for %q", got.Gaps, got.Looked)
				}
				return true
			}
		}
		return false
	})
	if strings.Contains(s.problems(), "intelligence") {
		t.Errorf("problems: %s", s.problems())
	}
	s.stop()

	// Without a server it goes on with what it has.
	s.opts.Uplink = nil
	s.start()
	s.until("the bundle is in use after a restart", func() bool { return s.agent.Status().Intelligence == m.Version })
}

// TestOwnIntelligence: a host that makes its own bundles takes none.
func TestOwnIntelligence(t *testing.T) {
	s := newSite(t)
	s.opts.Intel = inteltest.Data(t)
	own, err := intel.Verify(s.opts.Intel)
	if err != nil {
		t.Fatal(err)
	}
	s.uplink.handOut(t, inteltest.Data(t), false)
	s.start()
	s.beat()
	s.until("it uses its own", func() bool { return s.agent.Status().Intelligence == own.Version })
	s.uplink.mu.Lock()
	defer s.uplink.mu.Unlock()
	if s.uplink.parts > 0 {
		t.Error("it fetched the server's")
	}
}

// TestOneBadDetectionSpoilsNoOther: of a bundle's detections the right ones run,
// also beside one that is malformed and one that would take too long; those are
// named where the agent's problems are shown.
func TestOneBadDetectionSpoilsNoOther(t *testing.T) {
	const fires = "exec.path == \"/opt/odd\""
	rule := func(id, when string) string {
		return "apiVersion: breakwater/v1\nkind: Detection\nid: " + id + "\ntitle: Odd program\nseverity: high\ndescription: It is odd.\nattack: [T1059]\nevents: [exec]\neffect: kill\nwhen: '" + when +
			"'\nsentence: \"{exec} was started in {container}\"\nmustFire:\n- {kind: exec, exec: {path: /opt/odd}}\nmustNotFire:\n- {kind: exec, exec: {path: /bin/sh}}\n"
	}
	forever := "[" + strings.Repeat("1,", 200) + "1]"
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, text := range map[string]string{
		"odd.yaml": rule("odd-program", fires), "broken.yaml": rule("broken", "exec.pth == 3"),
		"forever.yaml": rule("forever", forever+".all(a, "+forever+".all(b, "+forever+".all(c, a + b + c > 0)))"),
	} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}), func() error { _, err := w.Write([]byte(text)); return err }()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	detections := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive.Bytes()) }))
	defer detections.Close()
	s := newSite(t)
	if _, err := intel.Build(t.Context(), intel.Options{Data: s.dir, Source: inteltest.Serve(t), Detections: detections.URL, Program: "test"}); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("the bad ones are named", func() bool {
		p := s.problems()
		return strings.Contains(p, "2 detection files of the bundle were left out, the others count: broken.yaml:") && strings.Contains(p, "forever.yaml:")
	})
	s.appear(idA)
	s.sensor.events <- event.Event{Key: "odd", Kind: event.KindExec, Time: time.Now(), Container: &event.Container{ID: idA}, Exec: &event.Exec{Path: "/opt/odd"}}
	s.until("the right one alerts", func() bool {
		return slices.ContainsFunc(s.incidents(), func(i event.Incident) bool {
			return i.Detection == "odd-program" && i.Decision.Effect == event.EffectAlert
		})
	})
}
