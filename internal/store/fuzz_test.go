package store_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// FuzzIngest: whatever an agent sends, the batch is stored or kept as a reject,
// and everything that is stored can be read again.
func FuzzIngest(f *testing.F) {
	add := func(kind api.RecordKind, v any) {
		body, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(kind), "k", body)
	}
	add(api.RecordIncident, storetest.Incident("k"))
	add(api.RecordReport, storetest.Report(storetest.Digest("a"), time.Unix(1, 0)))
	add(api.RecordEvent, event.Event{Kind: event.KindExec, Exec: &event.Exec{Path: "/x"}})
	f.Add("incident", "", []byte(`{"time":"9999-12-31T23:59:59Z","container":null}`))
	f.Add("event", "\x00", []byte(`{"time":"0000-01-01T00:00:00Z","container":{"id":"\u0000"}}`))
	f.Add("report", "k", []byte(`{"image":{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"verdict":null,"findings":[{}]}`))
	f.Add("riddle", "k", []byte(`[`))
	s := open(f, filepath.Join(f.TempDir(), "db"))
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, kind, key string, body []byte) {
		r := api.Record{Sequence: 1, Kind: api.RecordKind(kind), Key: key, Time: time.Unix(1, 0), Body: body}
		got, err := s.Ingest(t.Context(), storetest.Batch("a1", r))
		if err != nil || got.Committed != 1 || len(got.Incidents)+got.Events+len(got.Images)+got.Known+got.Rejected != 1 {
			t.Fatalf("%+v %v", got, err)
		}
		if _, err := s.Incidents(t.Context(), store.IncidentFilter{Limit: 5}); err != nil {
			t.Error(err)
		}
		if _, err := s.Events(t.Context(), store.EventFilter{Limit: 5}); err != nil {
			t.Error(err)
		}
		for _, digest := range got.Images {
			if _, _, err := s.Image(t.Context(), digest); err != nil {
				t.Error(err)
			}
		}
	})
}
