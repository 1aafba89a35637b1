package policy

import "github.com/breakwater-sec/breakwater/internal/event"

// Subject is what a policy's scope and mode select on: one container to be, or
// one image by itself. Every fact may be empty when it is not known yet; a
// scope that reads an unknown fact sees the empty value.
type Subject struct {
	Image     event.Image     `json:"image"`
	Stage     string          `json:"stage,omitempty"` // development, staging, production; "" when unlabelled
	Host      string          `json:"host,omitempty"`
	Container event.Container `json:"container"`
}

// ImageFacts is everything the image section judges.
type ImageFacts struct {
	Subject
	// Scanned is false when no scan result exists; unscanned then decides.
	Scanned bool `json:"scanned"`
	// Integrity says why the layers that were judged are those that the image's
	// digest names ("hashed", "engine"); "" when only the image says so, and the
	// digest proves nothing of what was judged.
	Integrity string `json:"integrity,omitempty"`
	// Judged is false when there was no intelligence to match against: the
	// packages are known, their vulnerabilities are not.
	Judged   bool            `json:"judged"`
	Findings []event.Finding `json:"findings"`
	Packages []event.Package `json:"packages"`
	Config   ImageConfig     `json:"config"`

	Malware           []event.Malware          `json:"malware"`
	Secrets           []event.Secret           `json:"secrets"`
	Licenses          []event.License          `json:"licenses"` // of files that belong to no package
	Misconfigurations []event.Misconfiguration `json:"misconfigurations"`
	Signatures        []event.Signature        `json:"signatures"`
	// Looked says which kinds of content were looked for; see report.Report.
	Looked []string `json:"looked"`
	// Gaps says what the scan could not judge, one sentence each.
	Gaps []string `json:"gaps"`
	// Memo may be nil.
	Memo *Memo `json:"-"`
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
	User            string   `json:"user"` // who asks; "" when the engine does not say
	Privileged      bool     `json:"privileged"`
	HostNamespaces  []string `json:"hostNamespaces"`    // of pid, net, ipc, uts, user, cgroup
	AddCapabilities []string `json:"addedCapabilities"` // without CAP_, upper case; "ALL" stays
	Mounts          []Mount  `json:"mounts"`
	Devices         []string `json:"devices"`     // host paths
	MemoryLimit     int64    `json:"memoryLimit"` // bytes; 0 = none
	PidsLimit       int64    `json:"pidsLimit"`   // 0 or -1 = none
	CPULimit        float64  `json:"cpuLimit"`    // cores; 0 = none
	NoNewPrivileges bool     `json:"noNewPrivileges"`
	ReadOnlyRootfs  bool     `json:"readOnlyRootfs"`
	Seccomp         string   `json:"seccomp"` // "", default, unconfined, or "custom"
	AppArmor        string   `json:"apparmor"`
	SecurityOptions []string `json:"securityOptions"`
	CgroupParent    string   `json:"cgroupParent"`
}

// Mount is one mount of a container to be.
type Mount struct {
	Source   string `json:"source"` // host path, cleaned and symlinks resolved where possible; "" for volumes by name
	Target   string `json:"target"`
	Type     string `json:"type"`            // bind, volume, tmpfs, image
	Image    string `json:"image,omitempty"` // of a mount of type image: its name
	ReadOnly bool   `json:"readOnly"`
}

// findings are those to judge, whichever way they were given.
func (f *ImageFacts) findings() []Found {
	if f.Memo != nil && f.Memo.Findings != nil {
		return f.Memo.Findings
	}
	out := make([]Found, len(f.Findings))
	for i := range f.Findings {
		out[i] = Found{&f.Findings[i], &f.Findings[i].Package}
	}
	return out
}

// values are the findings themselves, as conditions read them.
func values(findings []Found) []event.Finding {
	out := make([]event.Finding, len(findings))
	for i, f := range findings {
		out[i] = f.value()
	}
	return out
}
