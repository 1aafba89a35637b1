package server_test

import (
	"errors"
	"testing"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
)

// TestHopelessBatch: a batch that can never be stored is let go of, else it
// would dam up all that comes after it.
func TestHopelessBatch(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	for _, b := range []api.Batch{{Version: 99, Agent: "a1"}, {Version: api.Version}} {
		if err := s.Ingest(t.Context(), b); !errors.Is(err, bus.ErrRefuse) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}
