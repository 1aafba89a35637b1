package event

import "time"

// Place is where in an image something was found.
type Place struct {
	// Kind says what Path is: "file" (relative to the image's root), "env",
	// "label", "history" or "command" (a name, the number of the build step, or
	// "entrypoint" or "cmd").
	Kind string `json:"kind"`
	Path string `json:"path"`
	Line int    `json:"line,omitempty"` // from 1; 0 when lines mean nothing
	// Layer and LayerIndex are those of the layer that holds it; Layer is empty
	// for what stands in the image's configuration.
	Layer      string `json:"layer,omitempty"`
	LayerIndex int    `json:"layerIndex"`
	// Deleted: a later layer removed or replaced the file. It cannot be seen in
	// a container, but everybody who pulls the image has it.
	Deleted bool `json:"deleted,omitempty"`
}

// The kinds of places.
const (
	PlaceFile    = "file"
	PlaceEnv     = "env"
	PlaceLabel   = "label"
	PlaceHistory = "history"
	PlaceCommand = "command"
)

// The kinds of content that a scan can look for, as a report names them.
const (
	LookedMalware  = "malware"
	LookedSecrets  = "secrets"
	LookedLicenses = "licenses"
)

// Malware is one file that is, or hides, malicious software.
type Malware struct {
	Name string `json:"name"` // as the engine calls it
	// Engine that says so: clamav, hash, yara, evidence.
	Engine string `json:"engine"`
	// Reason is one sentence for people.
	Reason   string   `json:"reason,omitempty"`
	Severity Severity `json:"severity"`
	SHA256   string   `json:"sha256,omitempty"` // of the whole file, when it was hashed
	Place    Place    `json:"place"`
}

// Secret is a credential that lies in an image. Its value is never kept.
type Secret struct {
	Rule     string   `json:"rule"` // id of the rule that knows it
	Title    string   `json:"title"`
	Severity Severity `json:"severity"`
	// Excerpt shows at most the first four characters of the value, and nothing
	// of values shorter than sixteen.
	Excerpt string `json:"excerpt"`
	Place   Place  `json:"place"`
}

// Misconfiguration is one violated check of an image's configuration or of a
// file that describes how containers are built or run.
type Misconfiguration struct {
	ID          string   `json:"id"`
	Title       string   `json:"title"`
	Severity    Severity `json:"severity"`
	Message     string   `json:"message"` // what is wrong here
	Remediation string   `json:"remediation"`
	References  []string `json:"references,omitempty"` // CIS section, ATT&CK id, URL
	Resource    string   `json:"resource,omitempty"`   // Deployment/web, service "db", stage "build"
	Place       Place    `json:"place"`
}

// Signature is what was found out about one signature on an image.
type Signature struct {
	Kind string `json:"kind"` // cosign, notation
	// Signer is the name of the trusted key or identity that policy names; empty
	// when the signature is not by any of them.
	Signer string `json:"signer,omitempty"`
	// Identity is what the signature itself says, for people: a certificate's
	// subject and issuer, or a key's fingerprint.
	Identity string    `json:"identity,omitempty"`
	Verified bool      `json:"verified"`
	Reason   string    `json:"reason,omitempty"` // why not
	Signed   time.Time `json:"signed,omitzero"`
}

// Rating is one publisher's word on how severe a vulnerability is.
type Rating struct {
	Source   string   `json:"source"` // debian, ghsa, nvd, …
	Severity Severity `json:"severity,omitempty"`
	Vector   string   `json:"vector,omitempty"` // CVSS, as published
	Score    float64  `json:"score,omitempty"`  // computed from Vector
}

// Statement is what a VEX document says of a finding.
type Statement struct {
	Status        string `json:"status"` // not_affected, affected, fixed, under_investigation
	Justification string `json:"justification,omitempty"`
	Impact        string `json:"impact,omitempty"`
	Author        string `json:"author,omitempty"`
	Document      string `json:"document"` // id or file name
}

// License is a licence that a file states.
type License struct {
	Expression string `json:"expression"` // SPDX
	// Confidence is from 0 to 1: how much of the licence's text is there.
	Confidence float64 `json:"confidence,omitempty"`
	Place      Place   `json:"place"`
}

// FileHash is the SHA-256 of a whole file, in hex.
type FileHash struct {
	SHA256 string `json:"sha256"`
	Place  Place  `json:"place"`
}

// Content is what was found by looking into the content of files: of one file
// or of one layer.
type Content struct {
	Malware  []Malware `json:"malware,omitempty"`
	Secrets  []Secret  `json:"secrets,omitempty"`
	Licenses []License `json:"licenses,omitempty"`
	// Hashes are those of programs, for intelligence that knows malicious ones.
	Hashes []FileHash `json:"hashes,omitempty"`
	// Gaps says what could not be looked at, one sentence each.
	Gaps []string `json:"gaps,omitempty"`
	// Larger is how many files were left out because they do not fit into memory.
	Larger int `json:"larger,omitempty"`
	// Failed: the engine did not answer about some file. What it found stands,
	// and nothing follows from what it did not find.
	Failed bool `json:"failed,omitempty"`
}
