package agent_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// TestGateHandsOver: what the gate was told by an engine of this agent is not
// asked again; what is of another engine, or about another container, is.
func TestGateHandsOver(t *testing.T) {
	s := newSite(t)
	s.uplink.signed = s.sign(s.bundle(3, noPrivileged))
	s.engine.add(idA, "told", nil)
	inspection, err := json.Marshal(s.engine.containers[idA])
	if err != nil {
		t.Fatal(err)
	}
	delete(s.engine.containers, idA) // whoever asks the engine learns nothing
	s.start()
	socket := s.opts.Sockets[0]
	other := strings.Repeat("c", 64)
	for _, row := range []struct{ id, socket, name, image string }{
		{other, socket, "", ""},
		{idA, "/other.sock", "", ""},
		{idA, socket, "told", "demo:1"},
	} {
		note, err := json.Marshal(api.StartNote{
			Container: event.Container{ID: row.id}, Engine: row.socket, Inspection: inspection, References: []string{"also:2", "demo:1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if status, body := s.desk("/v1/start", string(note)); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		s.appear(row.id)
		s.until("it is shown", func() bool { return s.guarded(row.id) != nil })
		if c := s.guarded(row.id).Container; c.Name != row.name || c.Image.Name() != row.image {
			t.Errorf("%+v: shown as %+v", row, c)
		}
		if _, ok := s.kernel.run(row.id); !ok {
			t.Errorf("%+v: it has no policy", row)
		}
	}
}
