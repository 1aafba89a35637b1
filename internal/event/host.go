package event

import "time"

// Strength is how much a host can do about a control.
type Strength string

// The strengths, from the strongest.
const (
	StrengthPrevent     Strength = "prevent"
	StrengthPreventLive Strength = "prevent while the agent lives"
	StrengthKill        Strength = "kill"
	StrengthDetect      Strength = "detect"
	StrengthNone        Strength = "none"
)

// Capability is one line of the doctor's table: what this host can do about
// one control, found by the effect of a canary act, never by configuration.
type Capability struct {
	Control   Control  `json:"control"`
	Title     string   `json:"title"` // for people: "programs outside policy"
	Strength  Strength `json:"strength"`
	Mechanism string   `json:"mechanism,omitempty"`
	Why       string   `json:"why"`           // the evidence, or what is missing
	Fix       string   `json:"fix,omitempty"` // how the host could get a stronger one
	// Inconclusive: the probe itself could not be carried out. Never cached.
	Inconclusive bool `json:"inconclusive,omitempty"`
	// Unused: what the host could do; no policy field of this version asks for
	// it in a running container.
	Unused bool `json:"unused,omitempty"`
}

// Doctor is what a host can do, at a time.
type Doctor struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	Kernel string    `json:"kernel"`
	Tier   int       `json:"tier"` // 1: programs refuse where the kernel asks; 2: they do not; 0: no BPF
	// Hook is how programs of tier 1 get there: "lsm", or "fmod_ret" on kernels
	// without bpf in their lsm= list.
	Hook         string       `json:"hook,omitempty"`
	Hierarchy    string       `json:"hierarchy"` // v1, v2, hybrid
	Engines      []Engine     `json:"engines,omitempty"`
	Capabilities []Capability `json:"capabilities"`
	Notes        []string     `json:"notes,omitempty"`
}

// Engine is a container engine found on a host.
type Engine struct {
	Name    string `json:"name"` // docker, containerd, podman, cri-o
	Version string `json:"version,omitempty"`
	Socket  string `json:"socket"`
	Gate    string `json:"gate,omitempty"` // installed, absent, unreachable
	Error   string `json:"error,omitempty"`
}

// Guarded is one container on a host and the policy that the kernel holds for it.
type Guarded struct {
	Container Container `json:"container"`
	// Generation of the policy bundle in the kernel for this container; 0 is
	// the pinned default.
	Generation uint64   `json:"generation"`
	Policies   []string `json:"policies,omitempty"`
	Mode       string   `json:"mode,omitempty"` // enforce, audit, not covered
	Why        string   `json:"why,omitempty"`  // why it is not covered, or weaker than wanted
	Verdict    *Verdict `json:"verdict,omitempty"`
}

// HostStatus is what an agent reports about its host on each heartbeat.
type HostStatus struct {
	Agent      string    `json:"agent"`
	Host       string    `json:"host"`
	Version    string    `json:"version"`
	Time       time.Time `json:"time"`
	Started    time.Time `json:"started"`
	Generation uint64    `json:"generation"` // of the policy bundle in force
	// Intelligence is the version of the bundle that images are judged by, and
	// when it was built; "" and zero when the host has none.
	Intelligence      string    `json:"intelligence,omitempty"`
	IntelligenceBuilt time.Time `json:"intelligenceBuilt,omitzero"`
	Doctor            Doctor    `json:"doctor"`
	Containers        []Guarded `json:"containers"`
	// Accounts count events per kind since the kernel part was loaded.
	Accounts []Account `json:"accounts,omitempty"`
	// Kept count events per kind that the agent gave to its store of events since
	// it started, and those of them that found no room there.
	Kept []Account `json:"kept,omitempty"`
	// Excepted count what exceptions passed over on this host.
	Excepted []Excepted `json:"excepted,omitempty"`
	Problems []string   `json:"problems,omitempty"` // what is wrong now, one sentence each
}

// Account counts events of one kind at the kernel's ring: what was emitted, and
// what of it found no room there for the agent (Dropped).
// The agent judges all that it gets; it keeps incidents, and of the other
// events those of containers, gates and agents.
type Account struct {
	Kind    Kind   `json:"kind"`
	Emitted uint64 `json:"emitted"`
	Dropped uint64 `json:"dropped"`
	// Repeated were not emitted: the same had been told before.
	Repeated uint64 `json:"repeated,omitempty"`
}

// Excepted counts what one exception passed over.
type Excepted struct {
	ID        int64     `json:"id"` // of the exception
	Count     uint64    `json:"count"`
	Last      time.Time `json:"last"`
	Container string    `json:"container,omitempty"` // of the last one, by name
	Outcome   Outcome   `json:"outcome,omitempty"`   // of the last one
}
