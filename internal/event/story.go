package event

import "time"

// Story is what several incidents are together: acts of one process tree in one
// container, each within a short time of the one before. Every incident of it
// carries the story as it stood when that incident was finished; the one with the
// highest Revision is the newest word.
type Story struct {
	// Key is the same in all incidents of the story.
	Key string `json:"key"`
	// Step is the place of this incident in the story, from 1.
	Step     int    `json:"step"`
	Revision uint64 `json:"revision"`
	// Severity never falls: it is the worst of the incidents, and one level more
	// where they together show three or more tactics.
	Severity Severity `json:"severity"`
	// Tactics are those of ATT&CK that were seen, in the order of its matrix.
	Tactics []string `json:"tactics,omitempty"`
	// Sentence says in one sentence what happened and what to do.
	Sentence string    `json:"sentence"`
	Started  time.Time `json:"started"`
	Steps    int       `json:"steps"`   // incidents so far
	Stopped  int       `json:"stopped"` // of them prevented or killed
	// Counted is how many further acts there were that are like ones that were
	// told, and got no incident of their own.
	Counted uint64 `json:"counted,omitempty"`
}
