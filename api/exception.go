package api

import "time"

// Exception says that acts which look exactly like one that was seen are wanted:
// agents tell of them no more and answer them with nothing, and count them. It
// lifts nothing in the kernel: what policy refuses or kills there, and what is
// always malicious, stays refused and killed.
//
// All of Detection, Program, Comm, Parent and Target have to be the same, and the
// container's name or the repository of its image.
type Exception struct {
	ID        int64     `json:"id"`
	Detection string    `json:"detection"`           // a detection's id, or policy.CONTROL
	Image     string    `json:"image,omitempty"`     // repository, without tag and digest
	Container string    `json:"container,omitempty"` // name; empty where Image is not
	Program   string    `json:"program,omitempty"`   // path of the process's program
	Comm      string    `json:"comm,omitempty"`      // the name it goes by
	Parent    string    `json:"parent,omitempty"`    // path of its parent's program
	Target    string    `json:"target,omitempty"`    // what was executed, opened, connected to, asked for
	Ends      time.Time `json:"ends"`                // the first moment at which it no longer counts
}
