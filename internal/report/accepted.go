package report

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Accepted is one thing that was found and that a baseline accepts until a day.
// Exactly one of Finding, Secret and Misconfiguration is set.
type Accepted struct {
	Finding          *event.Finding          `json:"finding,omitempty"`
	Secret           *event.Secret           `json:"secret,omitempty"`
	Misconfiguration *event.Misconfiguration `json:"misconfiguration,omitempty"`
	Reason           string                  `json:"reason,omitempty"`
	Until            time.Time               `json:"until"` // the last day, UTC
}

func (a *Accepted) why() string {
	return joined(": ", "accepted by the baseline until "+date(a.Until), a.Reason)
}
