// Package report holds the one model of a scan's result and renders it: as a
// table and a page for people, as JSON, and in the formats of other tools. Every
// renderer reads the same model, so no format can know more, or other things,
// than the next.
package report

import (
	"strconv"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// SchemaVersion is the version of the JSON form.
const SchemaVersion = 1

// Report is what one scan of one image found.
type Report struct {
	Schema int         `json:"schema"`
	Tool   string      `json:"tool"` // "breakwater <version>"
	Time   time.Time   `json:"time"`
	Target string      `json:"target"` // as the user named it
	Image  event.Image `json:"image"`
	// Integrity says why the layers are the ones that Image.Digest names:
	// "hashed" (every one was), "engine" (its own export), or "" (the archive
	// says so; an engine checks it when it loads the archive). Only the first
	// two may be kept under the digest.
	Integrity string             `json:"integrity,omitempty"`
	Config    policy.ImageConfig `json:"config"`
	Distro    Distro             `json:"distro"`
	Layers    []Layer            `json:"layers"`
	Packages  []event.Package    `json:"packages"`
	Findings  []event.Finding    `json:"findings"`
	// Excluded are findings that a VEX document says do not count here.
	Excluded []event.Finding `json:"excluded,omitempty"`
	// Accepted is what a baseline accepts; no verdict rests on it.
	Accepted []Accepted      `json:"accepted,omitempty"`
	Malware  []event.Malware `json:"malware,omitempty"`
	Secrets  []event.Secret  `json:"secrets,omitempty"`
	// Licenses are those of licence files that belong to no package.
	Licenses          []event.License          `json:"licenses,omitempty"`
	Misconfigurations []event.Misconfiguration `json:"misconfigurations,omitempty"`
	Signatures        []event.Signature        `json:"signatures,omitempty"`
	// Looked says which kinds of content were looked for ("malware", "secrets", "licenses",
	// "misconfiguration", "signatures"): the absence of a finding means nothing
	// for the others.
	Looked []string `json:"looked,omitempty"`
	// Engines that looked for malware, with version and date of what they know.
	Engines []string `json:"engines,omitempty"`
	// Advice on what to change; nil when there is none, or nobody asked.
	Advice *Advice `json:"advice,omitempty"`
	// Compared is what changed since another scan; nil when none was named.
	Compared *Difference `json:"compared,omitempty"`
	// Intelligence that the findings came from; nil when there was none.
	Intelligence *Intelligence `json:"intelligence,omitempty"`
	// Gaps says what could not be read or judged, one sentence each.
	Gaps []string `json:"gaps,omitempty"`
	// Unmatched are those of Gaps that come from matching with intelligence: a
	// newer bundle replaces them, and no others.
	Unmatched []string `json:"unmatched,omitempty"`
	// Notes says what else a reader should know of this scan, one sentence
	// each; nothing that a verdict rests on.
	Notes   []string       `json:"notes,omitempty"`
	Verdict *event.Verdict `json:"verdict,omitempty"` // nil when no policy was asked
}

// The values of Integrity.
const (
	Hashed     = "hashed"
	FromEngine = "engine"
)

// Distro is the distribution an image is made of.
type Distro struct {
	ID       string `json:"id,omitempty"`      // debian
	Version  string `json:"version,omitempty"` // 12
	Codename string `json:"codename,omitempty"`
	Name     string `json:"name,omitempty"` // for people
	// EndOfLife is when its publisher's support ended or ends; zero when unknown.
	EndOfLife time.Time `json:"endOfLife,omitzero"`
}

// Layer is one layer, the base first.
type Layer struct {
	DiffID string `json:"diffId"`
	Step   string `json:"step,omitempty"` // the build step, from the image's history
	Size   int64  `json:"size"`           // bytes, uncompressed, as read
	Files  int    `json:"files"`
	// Base: the layer is of the image that the build started from, as far as the
	// image's history tells.
	Base bool `json:"base,omitempty"`
}

// LayerName is the layer that brought a package: its diff id, or its number.
func (r *Report) LayerName(p *event.Package) string {
	if p.Layer != "" {
		return p.Layer
	}
	return strconv.Itoa(p.LayerIndex)
}

// Intelligence names the bundle that findings were matched with.
type Intelligence struct {
	Version string    `json:"version"`
	Built   time.Time `json:"built"`
	// Ecosystems maps each one to its number of advisories and their age.
	Ecosystems map[string]Freshness `json:"ecosystems"`
}

// Freshness is how much is known of one ecosystem, and since when.
type Freshness struct {
	Advisories int       `json:"advisories"`
	Updated    time.Time `json:"updated"`
}
