package policy

import "github.com/breakwater-sec/breakwater/internal/event"

// Subject is what a policy's scope and mode select on: one container to be, or
// one image by itself. Every fact may be empty when it is not known yet; a
// scope that reads an unknown fact sees the empty value.
type Subject struct {
	Image     event.Image
	Stage     string // development, staging, production; "" when unlabelled
	Host      string
	Container event.Container
}

// ImageFacts is everything the image section judges.
type ImageFacts struct {
	Subject
	// Scanned is false when no scan result exists; unscanned then decides.
	Scanned bool
	// Judged is false when there was no intelligence to match against: the
	// packages are known, their vulnerabilities are not.
	Judged   bool
	Findings []event.Finding
	Packages []event.Package
	Config   ImageConfig
	// Gaps says what the scan could not judge, one sentence each.
	Gaps []string
}

// ImageConfig is the part of an image's configuration that rules may read as
// image.config.
type ImageConfig struct {
	User         string            `json:"user"`
	Env          []string          `json:"env"`
	Entrypoint   []string          `json:"entrypoint"`
	Cmd          []string          `json:"cmd"`
	Labels       map[string]string `json:"labels"`
	ExposedPorts []string          `json:"exposedPorts"`
	Volumes      []string          `json:"volumes"`
	WorkingDir   string            `json:"workingDir"`
}

// StartFacts is everything the start section judges: the parameters that
// somebody wants to start a container with.
type StartFacts struct {
	Subject
	User            string // who asks; "" when the engine does not say
	Privileged      bool
	HostNamespaces  []string // of pid, net, ipc, uts, user, cgroup
	AddCapabilities []string // without CAP_, upper case; "ALL" stays
	Mounts          []Mount
	Devices         []string // host paths
	MemoryLimit     int64    // bytes; 0 = none
	PidsLimit       int64    // 0 or -1 = none
	CPULimit        float64  // cores; 0 = none
	NoNewPrivileges bool
	ReadOnlyRootfs  bool
	Seccomp         string // "", default, unconfined, or "custom"
	AppArmor        string
	SecurityOptions []string
	CgroupParent    string
}

// Mount is one mount of a container to be.
type Mount struct {
	Source   string `json:"source"` // host path, cleaned and symlinks resolved where possible; "" for volumes by name
	Target   string `json:"target"`
	Type     string `json:"type"` // bind, volume, tmpfs
	ReadOnly bool   `json:"readOnly"`
}
