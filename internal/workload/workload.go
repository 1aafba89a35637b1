// Package workload says which container, image, workload and engine an event
// belongs to. It asks container engines (Docker over its API) and, for
// containers that no engine answers for, reads the OCI bundle that every
// runtime leaves on disk.
package workload

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// ErrUnknown is wrapped by errors about containers that an engine does not have.
var ErrUnknown = errors.New("container unknown to every engine")

// Found is one container as its engine describes it.
type Found struct {
	Container event.Container
	// Inspection is the engine's own JSON (Docker: GET /containers/{id}/json),
	// from which start parameters are judged; nil when only an OCI bundle is
	// known.
	Inspection json.RawMessage
	// Socket is where that engine answers; "" when none described the container.
	Socket string
}

// Phase is a step in a container's life.
type Phase string

// The phases that engines announce. What the kernel tells of starts and ends is
// earlier and surer.
const (
	PhaseCreated Phase = "created" // before its first process
	PhaseStarted Phase = "started"
	PhaseEnded   Phase = "ended" // its first process is gone; it may be started again
	PhaseRemoved Phase = "removed"
)

// Change is one step in one container's life.
type Change struct {
	ID    string
	Phase Phase
	// At is when, by the engine's clock: its stream begins with the whole second
	// that it is asked in, and so may tell of what was before.
	At time.Time
}
