package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// exceptSome excepts a step of the break-in, of which an agent then passes over some.
func exceptSome(t *testing.T, s *running, agent string) store.Exception {
	t.Helper()
	x, err := s.Except(t.Context(), 8, false, "the health check looks at its neighbours", time.Now().AddDate(0, 1, 0).Truncate(24*time.Hour), store.Actor{Name: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	st := hostStatus(agent)
	st.Excepted = []event.Excepted{{ID: x.ID, Count: 41, Last: time.Now(), Container: "web-1", Outcome: event.Detected}, {ID: 99, Count: 7}}
	if _, err := s.Status(t.Context(), agent, st); err != nil {
		t.Fatal(err)
	}
	return x
}

// TestExceptions: only what is whole and bounded in time is taken; agents get it in
// their signed bundle, under a new generation; who may only read makes none.
func TestExceptions(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	c := admin(t, s)
	if err := s.Ingest(t.Context(), storetest.Batch(agent, breakIn(t)...)); err != nil {
		t.Fatal(err)
	}
	bundle := func() (b api.PolicyBundle) {
		signed, err := s.PolicyFor(t.Context(), agent)
		if err == nil {
			err = json.Unmarshal(signed.Payload, &b)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := bundle()
	day := func(d int) string { return time.Now().AddDate(0, 0, d).Format(time.DateOnly) }
	for _, bad := range []struct {
		id            int
		reason, until string
		want          int
	}{
		{8, "", day(3), 400}, {8, "  ", day(3), 400}, {8, strings.Repeat("x", 501), day(3), 400}, {8, "r", "", 400}, {8, "r", "soon", 400},
		{8, "r", day(-3), 400}, {8, "r", day(400), 400}, {999, "r", day(3), 404}, {4, "r", day(3), 400},
	} {
		body := fmt.Sprintf(`{"reason": %q, "until": %q}`, bad.reason, bad.until)
		if status, text := c.call("POST", fmt.Sprintf("/api/v1/incidents/%d/exceptions", bad.id), body, nil, "Content-Type", "application/json"); status != bad.want || bundle().Generation != before.Generation {
			t.Errorf("%+v: %d %s", bad, status, text)
		}
	}
	x := exceptSome(t, s, agent)
	after := bundle()
	if after.Generation <= before.Generation || len(after.Exceptions) != 1 || after.Exceptions[0].Image != "registry.example/shop/web" || after.Exceptions[0].Detection != "network-tool" {
		t.Errorf("%+v", after.Exceptions)
	}
	var list struct{ Items []store.Exception }
	if c.call("GET", "/api/v1/exceptions", "", &list); len(list.Items) != 1 || list.Items[0].Count != 41 || list.Items[0].Author != "ann" {
		t.Errorf("%+v", list)
	}
	var one struct {
		Month     int
		Excepted  uint64
		When      string
		Incidents []store.Incident
	}
	if status, _ := c.call("GET", "/api/v1/detections/network-tool", "", &one); status != http.StatusOK || one.Month != 1 || one.Excepted != 41 || len(one.Incidents) != 1 || one.When == "" {
		t.Errorf("%d %+v", status, one)
	}
	if status, _ := c.call("GET", "/api/v1/detections/nothing", "", nil); status != http.StatusNotFound {
		t.Errorf("a detection that nobody knows: %d", status)
	}
	for path, want := range map[string]string{"/detections/network-tool": "the health check looks at its neighbours", "/detections": "policy.drift", "/incidents/8": "It is wanted", "/incidents/1": "only the policy that stops it can allow it"} {
		if _, text := c.call("GET", path, "", nil); !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", path, want, text)
		}
	}
	// What agents find without a detection's file has a title, too.
	for n, id := range []string{"resource-leap", "host-pressure", "network-indicator"} {
		inc := event.Incident{Key: id, Time: time.Now(), Title: "One of " + id, Detection: id, Severity: event.SeverityLow}
		if err := s.Ingest(t.Context(), storetest.Batch(agent, storetest.Record(t, uint64(300+n), api.RecordIncident, id, inc))); err != nil {
			t.Fatal(err)
		}
		if status, text := c.call("GET", "/api/v1/detections/"+id, "", nil); status != http.StatusOK || strings.Contains(text, "another version") {
			t.Errorf("%s: %d %s", id, status, text)
		}
	}
	if status, _ := c.call("DELETE", fmt.Sprintf("/api/v1/exceptions/%d?reason=moved", x.ID), "", nil); status >= 300 || len(bundle().Exceptions) != 0 {
		t.Errorf("taken back: %d %+v", status, bundle().Exceptions)
	}
	if status, _ := c.call("DELETE", "/api/v1/exceptions/99", "", nil); status != http.StatusNotFound {
		t.Errorf("one that is not there: %d", status)
	}
}
