package event

import "time"

// Ignored is a misconfiguration that a comment of the file itself leaves out.
type Ignored struct {
	Misconfiguration
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"` // the last day, UTC; zero: no end
}

// Kinds of content that need no pass over the layers, as in report.Looked.
const (
	LookedMisconfigurations = "misconfigurations"
	LookedSignatures        = "signatures"
)
