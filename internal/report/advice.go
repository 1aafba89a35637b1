package report

import "github.com/breakwater-sec/breakwater/internal/event"

// Advice is what to change so that findings go away.
type Advice struct {
	// Base is nil when nothing is known to lie in a base image.
	Base *BaseAdvice `json:"base,omitempty"`
	// Updates of packages, the one to make first first. Updates of packages of
	// the base image are among them: a newer base image makes them needless.
	Updates []Update `json:"updates,omitempty"`
	// Unfixed is how many findings no update removes.
	Unfixed int `json:"unfixed"`
}

// BaseAdvice is about the image that the build started from.
type BaseAdvice struct {
	Image    string `json:"image,omitempty"` // as the image's label says
	Layers   int    `json:"layers"`          // the first so many are its
	Findings int    `json:"findings"`        // in them
	// Fixable is how many of those its publisher has a fix for.
	Fixable int `json:"fixable"`
	// Candidate is the base image that was tried instead, Gone how many of the
	// base's findings it does not have, and New how many it brings. Empty when
	// none was tried.
	Candidate string `json:"candidate,omitempty"`
	Gone      int    `json:"gone,omitempty"`
	New       int    `json:"new,omitempty"`
}

// Update is one step: packages that are updated together.
type Update struct {
	Packages  []string `json:"packages"` // names
	Ecosystem string   `json:"ecosystem"`
	From      string   `json:"from"`
	To        string   `json:"to"` // the lowest version that fixes all of Findings
	// Command does it; empty when there is none that is safe to paste.
	Command string `json:"command,omitempty"`
	// Findings that it removes: their ids, each as often as it was found.
	Findings   []string       `json:"findings"`
	Worst      event.Severity `json:"worst"`
	Exploited  int            `json:"exploited,omitempty"` // of those
	LayerIndex int            `json:"layerIndex"`
	Step       string         `json:"step,omitempty"` // the build step of that layer
	Base       bool           `json:"base,omitempty"` // the layer is the base image's
	Locked     bool           `json:"locked,omitempty"`
}
