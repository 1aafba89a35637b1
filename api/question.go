package api

import (
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Question is what a server asks an agent about what lies on its host. It can only
// ask for what the agent has seen; there is no question that makes an agent do
// anything to its host.
type Question struct {
	Version int    `json:"v"`
	ID      string `json:"id"` // of this question, random
	Kind    string `json:"kind"`
	// Of AskEvents: a condition in CEL and the time from which on; Detections is a
	// document of detections instead of Where, whose hits are asked for. Limit ends
	// the answer after so many events, 0 is no limit. Follow goes on with what is
	// seen from then on.
	Where      string    `json:"where,omitempty"`
	Detections []byte    `json:"detections,omitempty"`
	Since      time.Time `json:"since,omitzero"`
	Limit      int       `json:"limit,omitempty"`
	Follow     bool      `json:"follow,omitempty"`
	// Of AskEvidence: the key of the story.
	Story string `json:"story,omitempty"`
}

// The kinds of questions.
const (
	AskEvents   = "events"
	AskEvidence = "evidence"
)

// AnswerPart is one part of an answer; parts are numbered from 0 and sent one after
// the other, the next when the one before it was heard.
type AnswerPart struct {
	Version  int     `json:"v"`
	Question string  `json:"question"`
	Part     int     `json:"part"`
	Found    []Found `json:"found,omitempty"`
	Data     []byte  `json:"data,omitempty"` // of a bundle of evidence
	// Of the last part: what was read, and why it ends early.
	Last  bool   `json:"last,omitempty"`
	Seen  Seen   `json:"seen,omitzero"`
	Error string `json:"error,omitempty"`
}

// Found is an event that was asked for, and the ids of the detections that fire on
// it where these were asked for.
type Found struct {
	Event event.Event `json:"event"`
	Fired []string    `json:"fired,omitempty"`
}

// Seen says what an answer rests on: events that were read, lines that could not
// be, events that the agent knows to be missing, and the oldest that it has.
type Seen struct {
	Events  uint64    `json:"events"`
	Damaged uint64    `json:"damaged,omitempty"`
	Missing uint64    `json:"missing,omitempty"`
	Oldest  time.Time `json:"oldest,omitzero"`
}

// MaxPart is about the most bytes of an AnswerPart's content.
const MaxPart = 512 << 10

// Heard answers an AnswerPart.
type Heard struct {
	Stop bool `json:"stop,omitempty"` // nobody waits for more
	Wait bool `json:"wait,omitempty"` // the part was not taken: send it again
}
