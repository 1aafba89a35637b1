// Package api holds the contracts between the programs: what an agent and a
// server say to each other on the bus, and what the gate finds on the disk it
// shares with the agent. Agent and server never import each other; they meet
// here.
//
// Messages are JSON with a version number in each envelope. Readers ignore
// fields they do not know and refuse versions they do not know.
package api

import (
	"encoding/json"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Version of the messages of this package.
const Version = 1

// Subjects on the bus. An agent may publish below AgentSubject(id) and receive
// below CommandSubject(id) and its own inbox, nothing else; never on the
// JetStream API.
//
//	bw.agent.<id>.records   agent → server, Batch; the reply comes when the batch
//	                        is in the server's stream, which no agent can reach
//	bw.agent.<id>.status    agent → server, HostStatus, newest wins; the reply is a
//	                        StatusAnswer
//	bw.agent.<id>.policy    agent asks (request/reply) for its PolicyBundle
//	bw.agent.<id>.intel     agent asks for a part of the intelligence bundle
//	bw.agent.<id>.answer    agent → server, AnswerPart: a part of an answer to a
//	                        Question; the reply is a Heard
//	bw.cmd.<id>.ask         server → agent, Question
//	bw.cmd.<id>.ack         server → agent, Ack: committed up to Sequence
//	bw.cmd.<id>.policy      server → agent: a newer bundle exists
const (
	SubjectAgents   = "bw.agent."
	SubjectCommands = "bw.cmd."
)

// AgentSubject is the subject of one agent's messages of one kind.
func AgentSubject(agent, kind string) string { return SubjectAgents + agent + "." + kind }

// CommandSubject is the subject of one kind of message to one agent.
func CommandSubject(agent, kind string) string { return SubjectCommands + agent + "." + kind }

// RecordKind says what a Record carries.
type RecordKind string

// The kinds of records.
const (
	RecordIncident RecordKind = "incident"
	RecordEvent    RecordKind = "event"
	RecordReport   RecordKind = "report" // an image scan: report.Report
)

// Record is one thing an agent saw. Sequence numbers are the spool's: they
// rise by one per agent, survive restarts and are never given twice.
type Record struct {
	Sequence uint64          `json:"seq"`
	Kind     RecordKind      `json:"kind"`
	Key      string          `json:"key"` // the store keeps one row per key
	Time     time.Time       `json:"time"`
	Body     json.RawMessage `json:"body"`
}

// Batch is what an agent publishes on "records".
type Batch struct {
	Version int      `json:"v"`
	Agent   string   `json:"agent"`
	Epoch   string   `json:"epoch"` // of the spool: changes when its disk was lost
	Records []Record `json:"records"`
}

// Ack tells an agent that everything up to Sequence is committed in the store.
type Ack struct {
	Version  int    `json:"v"`
	Epoch    string `json:"epoch"`
	Sequence uint64 `json:"seq"`
	// Refused says why the store will never take the batch that ends at
	// Sequence; the agent lets it go and reports the loss.
	Refused string `json:"refused,omitempty"`
}

// Reply answers every message that an agent sends with a reply subject:
// an error in words, or the body that the subject's kind promises.
type Reply struct {
	Version int             `json:"v"`
	Error   string          `json:"error,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// Status is what an agent publishes on "status".
type Status struct {
	Version int              `json:"v"`
	Status  event.HostStatus `json:"status"`
}

// StatusAnswer is what a server says to a Status.
type StatusAnswer struct {
	// Intelligence is the ID of the bundle that the server hands out: the
	// SHA-256 of its manifest, hex; "" when it has none.
	Intelligence string `json:"intelligence,omitempty"`
}

// IntelligenceRequest asks for what a bundle's database holds from Offset on.
type IntelligenceRequest struct {
	Version int    `json:"v"`
	Bundle  string `json:"bundle"` // its ID, of a StatusAnswer
	Offset  int64  `json:"offset"`
}

// MaxIntelligencePart is the most bytes of one IntelligencePart.
const MaxIntelligencePart = 512 << 10

// IntelligencePart answers an IntelligenceRequest. The signature is of the
// intelligence key over the manifest, which holds the database's digest.
type IntelligencePart struct {
	Manifest  []byte `json:"manifest,omitempty"`  // with the part at offset 0
	Signature []byte `json:"signature,omitempty"` // with the part at offset 0
	Data      []byte `json:"data"`
}

// PolicyFile is one policy document as its author wrote it.
type PolicyFile struct {
	Name    string `json:"name"` // metadata.name
	Version int    `json:"version"`
	Source  string `json:"source"` // YAML
}

// PolicyBundle is the set of policies for one agent. Target, Generation and
// Expires keep it from being replayed or sent elsewhere. Agents keep the last
// good one on disk and go on with it without a server, also past Expires,
// saying so: expiry bounds acceptance, not force.
type PolicyBundle struct {
	Version    int          `json:"v"`
	Target     string       `json:"target"` // the agent's id
	Generation uint64       `json:"generation"`
	Issued     time.Time    `json:"issued"`
	Expires    time.Time    `json:"expires"`
	Stage      string       `json:"stage,omitempty"` // of the host
	Policies   []PolicyFile `json:"policies"`
	// Promotions are what is enforced of what intelligence brought.
	Promotions []Promotion `json:"promotions,omitempty"`
	// Exceptions are acts that are wanted.
	Exceptions []Exception `json:"exceptions,omitempty"`
	// VEX are documents of which an administrator wants to hear that findings do
	// not count.
	VEX []VEXDocument `json:"vex,omitempty"`
}

// VEXDocument says of vulnerabilities whether they count in products: OpenVEX,
// CSAF or CycloneDX, as JSON.
type VEXDocument struct {
	Name     string          `json:"name"`
	Document json.RawMessage `json:"document"`
}

// Promotion makes what intelligence brought more than an alert: connections to
// an indicator's peers are refused, a detection responds as it asks for.
type Promotion struct {
	Kind string `json:"kind"` // PromoteIndicator or PromoteDetection
	// Value is an address, a network, or a detection's id; "" means all of Source.
	Value string `json:"value,omitempty"`
	// Source is the feed of an indicator; "" means any.
	Source string    `json:"source,omitempty"`
	Ends   time.Time `json:"ends,omitzero"` // zero: it does not
}

// The kinds of promotions.
const (
	PromoteIndicator = "indicator"
	PromoteDetection = "detection"
)

// Signed is a bundle in its exact bytes with an Ed25519 signature over
// SignatureContext + Payload.
type Signed struct {
	Payload   []byte `json:"payload"`
	KeyID     string `json:"keyId"` // hex of the first 8 bytes of SHA-256 of the public key
	Signature []byte `json:"signature"`
}

// PolicySignatureContext separates policy signatures from all others.
const PolicySignatureContext = "breakwater policy bundle v1\n"

// EnrolRequest is what an agent posts to /api/v1/agents/enrol over TLS against
// a pinned server certificate.
type EnrolRequest struct {
	Token string `json:"token"`
	Host  string `json:"host"`
	NKey  string `json:"nkey"` // the agent's public user nkey
}

// EnrolResponse tells a new agent who it is and whom to trust.
type EnrolResponse struct {
	Agent     string `json:"agent"`
	BusURL    string `json:"busUrl"`
	BusCA     []byte `json:"busCa"`     // PEM
	PolicyKey []byte `json:"policyKey"` // Ed25519 public key
	// IntelligenceKey is the Ed25519 public key that intelligence bundles are
	// signed with; nil when the server hands out none.
	IntelligenceKey []byte `json:"intelligenceKey,omitempty"`
}

// Layout of the agent's data folder that the gate reads. The gate needs no
// living agent for anything that lies here.
const (
	// FilePolicy holds the Signed bundle in force.
	FilePolicy = "policy/current.json"
	// FilePolicyKey holds the Ed25519 public key, 32 bytes, hex.
	FilePolicyKey = "policy/key"
	// DirReports holds one report.Report per image: <config digest hex>.json.
	DirReports = "images"
	// SocketAgent is the agent's unix socket for the gate: HTTP, JSON.
	//   POST /v1/scan   ScanRequest → report.Report   (scan now)
	//   POST /v1/note   event.Event                   (record a gate event)
	//   POST /v1/start  StartNote                     (before a start is allowed)
	//   POST /v1/gate   GateNote                      (how a gate is, again and again)
	SocketAgent = "agent.sock"
)

// ScanRequest asks the agent for a scan now.
type ScanRequest struct {
	Engine string `json:"engine"` // socket path
	Digest string `json:"digest"` // config digest
	Name   string `json:"name"`
}

// StartNote tells the agent which container is about to start, so that its
// policy is in the kernel before its cgroup exists.
//
// Engine, Inspection and References spare the agent the question that the gate
// has just asked: the socket path of the engine, its own JSON for the container
// (Docker: GET /containers/{id}/json), and the names of its image. They are left
// out when they are longer than MaxInspection together; the agent asks then.
type StartNote struct {
	Container  event.Container `json:"container"`
	Engine     string          `json:"engine,omitempty"`
	Inspection json.RawMessage `json:"inspection,omitempty"`
	References []string        `json:"references,omitempty"`
}

// MaxInspection bounds what a StartNote hands over, in bytes.
const MaxInspection = 256 << 10

// GateNote tells the agent how a gate is: before a build begins, when one ended,
// and every GateNoteEvery as long as there is something to tell. Containers that
// appear without a start note while builds run are build containers; what a gate
// said of builds holds for GateNoteHolds.
type GateNote struct {
	Gate   string `json:"gate"`   // one life of a gate
	Engine string `json:"engine"` // socket path
	Builds int    `json:"builds"` // running now
	// Dropped counts decisions that the agent will never hear of, because too
	// many waited for it.
	Dropped uint64 `json:"dropped"`
}

// How often a gate repeats its GateNote, and how long the last one holds.
const (
	GateNoteEvery = 5 * time.Second
	GateNoteHolds = 20 * time.Second
)
