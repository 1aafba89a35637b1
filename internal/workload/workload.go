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
	// PID of the container's first process in the host's pid namespace; 0 when
	// it does not run.
	PID int
	// Created is when the engine made the container; Container.Started when it
	// last started it.
	Created time.Time
	// Inspection is the engine's own JSON (Docker: GET /containers/{id}/json),
	// from which start parameters are judged; nil when only an OCI bundle is
	// known.
	Inspection json.RawMessage
	// OCI is the runtime's config.json, when no engine answered.
	OCI json.RawMessage
}

// Phase is a step in a container's life.
type Phase string

// The phases that engines announce.
const (
	PhaseCreated Phase = "created" // before its first process
	PhaseStarted Phase = "started"
	PhaseStopped Phase = "stopped"
	PhaseRemoved Phase = "removed"
)

// Change is one step in one container's life.
type Change struct {
	ID    string
	Phase Phase
	Time  time.Time
}
