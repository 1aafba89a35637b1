package event

import "time"

// Incident is something that a person should know about: what happened, what
// was done about it, and why. It opens with one plain sentence.
type Incident struct {
	// Key identifies the incident across re-deliveries; the store keeps one
	// row per key.
	Key      string    `json:"key"`
	Time     time.Time `json:"time"`
	Agent    string    `json:"agent,omitempty"`
	Host     string    `json:"host"`
	Severity Severity  `json:"severity"`
	// Title names the kind of thing, Sentence tells what happened.
	Title    string `json:"title"`
	Sentence string `json:"sentence"`
	// Detection is the id of the rule that fired; empty for policy violations.
	Detection string     `json:"detection,omitempty"`
	AlwaysOn  bool       `json:"alwaysOn,omitempty"`
	Attack    []string   `json:"attack,omitempty"` // ATT&CK technique ids, e.g. T1611
	Decision  Decision   `json:"decision"`
	Container *Container `json:"container,omitempty"`
	// Tree holds the process and its ancestors, the oldest first.
	Tree []Process `json:"tree,omitempty"`
	// Event is the evidence.
	Event Event `json:"event"`
	// Responses are what the agent did afterwards (kill, stop, …), in order.
	Responses []Response `json:"responses,omitempty"`
	// Story is what this incident is a step of; nil for those of no process.
	Story *Story `json:"story,omitempty"`
}

// Response is one thing that the agent did about an incident.
type Response struct {
	Effect  Effect    `json:"effect"`
	Time    time.Time `json:"time"`
	Done    bool      `json:"done"`
	Message string    `json:"message,omitempty"`
	// Descendants is how many processes that the one had started were ended with it.
	Descendants int `json:"descendants,omitempty"`
}
