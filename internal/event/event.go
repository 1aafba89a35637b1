// Package event is the vocabulary of Breakwater: the plain values that every
// other room exchanges. It imports the standard library only and has no
// behaviour beyond naming, ordering and validating its own values, so that the
// sensor, the policy language, the store and the console mean the same thing by
// the same word.
//
// All values are JSON-encodable; field names are part of the documented schema
// (see SchemaVersion). None of the types is safe for concurrent modification.
package event

import "time"

// SchemaVersion is the version of the JSON form of the values of this package.
// It changes when a field is removed or changes meaning, not when one is added.
const SchemaVersion = 1

// Kind says what an Event reports. Detection rules are indexed by it.
type Kind string

// The kinds of events that the sensor, the agent and (image) the server produce.
const (
	KindFork      Kind = "fork"      // a container process made another before it executed a program of its own
	KindExec      Kind = "exec"      // a process replaced its program, or was refused to
	KindExit      Kind = "exit"      // a process (thread group) ended
	KindFileOpen  Kind = "file_open" // a watched file was opened
	KindConnect   Kind = "connect"   // an outbound connection or datagram was attempted
	KindFlow      Kind = "flow"      // the first bytes that a process sent on a connection
	KindSocket    Kind = "socket"    // a raw or packet socket was created
	KindListen    Kind = "listen"    // a process waits for connections
	KindDNS       Kind = "dns"       // a name was asked for
	KindPrivilege Kind = "privilege" // a right was asked for that few programs need, or a block device
	KindContainer Kind = "container" // a container appeared or went away
	KindImage     Kind = "image"     // an image verdict changed
	KindGate      Kind = "gate"      // the gate judged a request to an engine
	KindResource  Kind = "resource"  // a container uses more than it may, or than it ever did; or its host is short of something
	KindAgent     Kind = "agent"     // the agent speaks of itself: started, lost events, cannot enforce
)

// Known says whether it is one of these kinds.
func (k Kind) Known() bool {
	switch k {
	case KindFork, KindExec, KindExit, KindFileOpen, KindConnect, KindFlow, KindSocket, KindListen,
		KindDNS, KindPrivilege, KindContainer, KindImage, KindGate, KindResource, KindAgent:
		return true
	}
	return false
}

// Event is one thing that happened. Exactly one of the detail pointers is set,
// the one that belongs to Kind.
type Event struct {
	// Key identifies the event across restarts and re-deliveries: two events
	// with one key are one event.
	Key  string    `json:"key"`
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	Host string    `json:"host,omitempty"`

	Container *Container `json:"container,omitempty"`
	Process   *Process   `json:"process,omitempty"`

	Fork      *Fork         `json:"fork,omitempty"`
	Exec      *Exec         `json:"exec,omitempty"`
	Exit      *Exit         `json:"exit,omitempty"`
	File      *File         `json:"file,omitempty"`
	Network   *Network      `json:"network,omitempty"`
	Privilege *Privilege    `json:"privilege,omitempty"`
	DNS       *Question     `json:"dns,omitempty"`
	Resource  *ResourceUse  `json:"resource,omitempty"`
	Gate      *Gate         `json:"gate,omitempty"`
	Notice    *Notice       `json:"notice,omitempty"`
	Image     *ImageVerdict `json:"image,omitempty"`

	// Decision is what was decided about the act and what came of it.
	// Nil means: nothing was judged.
	Decision *Decision `json:"decision,omitempty"`
}

// Container names one container and what it was made of.
type Container struct {
	ID       string            `json:"id"` // the engine's full id
	Name     string            `json:"name,omitempty"`
	Engine   string            `json:"engine,omitempty"` // docker, containerd, podman, cri-o
	Image    Image             `json:"image"`
	Labels   map[string]string `json:"labels,omitempty"`
	Workload string            `json:"workload,omitempty"` // what an orchestrator or Compose file calls it
	CgroupID uint64            `json:"cgroupId,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	// Build marks a container that an engine made to carry out a step of an
	// image build; such containers have a scope of their own.
	Build bool `json:"build,omitempty"`
	// Privileged, HostPID and Capabilities say what the container could use
	// to undo enforcement; they come from the engine's inspection.
	Privileged   bool     `json:"privileged,omitempty"`
	HostPID      bool     `json:"hostPid,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"` // added ones, without CAP_
}

// Image is content: the config digest with its platform. References are
// aliases that point at it today.
type Image struct {
	Digest     string   `json:"digest,omitempty"`     // config digest, "sha256:" + 64 hex
	Platform   string   `json:"platform,omitempty"`   // os/arch[/variant]
	References []string `json:"references,omitempty"` // names and repository digests
	// Pinned are digests of manifests and indexes that were proven, at their
	// registry, to hold this very content. References only claim it.
	Pinned []string `json:"pinned,omitempty"`
}

// Name is the image's first reference, or its digest when it has none.
func (i Image) Name() string {
	if len(i.References) > 0 {
		return i.References[0]
	}
	return i.Digest
}

// Process is one process as the kernel knew it at the event.
type Process struct {
	// ID is unique on the host across pid reuse: "<pid>-<start>", start being
	// the thread group leader's start in nanoseconds since boot.
	ID       string `json:"id"`
	ParentID string `json:"parentId,omitempty"`
	PID      int    `json:"pid"` // in the host's pid namespace
	PPID     int    `json:"ppid,omitempty"`
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Comm     string `json:"comm,omitempty"`
	// ParentPath is the parent's program at the time, as far as it is known.
	ParentPath string    `json:"parentPath,omitempty"`
	Path       string    `json:"path,omitempty"` // the executable's, in the container's mount namespace
	Args       []string  `json:"args,omitempty"` // read from user memory: evidence, never a decision's ground
	Started    time.Time `json:"started,omitzero"`
}

// Fork is the making of a process that is told for itself (KindFork without it
// only tells what a process runs that nobody was told of before).
type Fork struct {
	// Bomb: with it the container has, within a second, more than a thousand processes
	// more, or more than a hundred that came by four forks or more in a row without a
	// program of their own.
	Bomb bool `json:"bomb"`
}

// Exec is the program that a process is about to become.
type Exec struct {
	Path string `json:"path"` // the executed file, by its dentry
	// Script is the file named to execve when that was a script: Path then is
	// its interpreter.
	Script string `json:"script,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
	Device uint64 `json:"device,omitempty"`
	// Upper: the file lies in the container's writable overlay layer.
	Upper bool `json:"upper,omitempty"`
	// Modified: the file's inode changed after the container started.
	Modified bool `json:"modified,omitempty"`
	// Fileless: the file has no name in any directory (memfd, unlinked).
	Fileless bool `json:"fileless,omitempty"`
	// StdinSocket, StdoutSocket: descriptor 0 or 1 is a network socket.
	StdinSocket  bool `json:"stdinSocket,omitempty"`
	StdoutSocket bool `json:"stdoutSocket,omitempty"`
	// ByKernel: the host's kernel started the program itself, as root and outside
	// of every container, and the file is a container's.
	ByKernel bool `json:"byKernel,omitempty"`
	// Loader: it is the dynamic loader, told to run a program.
	Loader bool `json:"loader,omitempty"`
	// Terminal: the process has a controlling terminal: a person may sit there.
	Terminal bool `json:"terminal,omitempty"`
	// Gained: the program gave the process another user's rights, or capabilities
	// (set-user-ID, set-group-ID, file capabilities).
	Gained bool `json:"gained,omitempty"`
	// EUID is the effective user from then on.
	EUID uint32 `json:"euid"`
	// Capabilities are the effective ones from then on, without CAP_.
	Capabilities []string `json:"capabilities,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// File is a file that was opened.
type File struct {
	Path  string `json:"path"` // by its dentry, in the container's mount namespace
	Write bool   `json:"write,omitempty"`
	// Act is what was done to it: empty for opening, else create, remove, rename,
	// link, truncate, mode (permissions) or owner. All but opening are told where
	// BPF LSM acts (tier 1).
	Act   string `json:"act,omitempty"`
	Inode uint64 `json:"inode,omitempty"`
	// Filesystem is the kernel's name of the file system for those that matter
	// to detections: cgroup, cgroup2, proc, sysfs, overlay, tmpfs; else empty.
	Filesystem string `json:"filesystem,omitempty"`
}

// Network is one end of a conversation.
type Network struct {
	Family    string `json:"family"`              // inet, inet6, unix, packet
	Transport string `json:"transport,omitempty"` // tcp, udp, raw
	Address   string `json:"address,omitempty"`   // the peer's
	Port      int    `json:"port,omitempty"`      // the peer's
	Path      string `json:"path,omitempty"`      // unix sockets
	// Head is the beginning of what was sent (KindFlow), at most 160 bytes,
	// invalid UTF-8 replaced.
	Head string `json:"head,omitempty"`
}

// Privilege is a right that the kernel was asked for. Rights that programs of
// containers use all the time (CHOWN, DAC_OVERRIDE, SETUID, KILL, …) are not told.
type Privilege struct {
	// Capability is what was asked for, without CAP_; empty for a device.
	Capability string `json:"capability,omitempty"`
	// Call is the system call that needed it, by its name where that is known
	// (mount, setns, unshare, bpf, …), else "syscall N". For a device: mknod, read,
	// write, or several with commas.
	Call    string `json:"call,omitempty"`
	Granted bool   `json:"granted"`
	// Device is a block device as major:minor.
	Device string `json:"device,omitempty"`
}

// Question is a question of DNS (RFC 1035).
type Question struct {
	Name   string `json:"name"`           // lower case, without the dot at its end
	Type   string `json:"type,omitempty"` // A, AAAA, TXT, …
	Server string `json:"server,omitempty"`
}

// ResourceUse is how much of a resource a container used, or how short of it its
// host is.
type ResourceUse struct {
	// Resource is cpu (thousandths of a core), memory (bytes), pids, files,
	// diskWrites or network (bytes a second).
	Resource string `json:"resource"`
	Used     uint64 `json:"used"`
	// Limit is policy's, Before the most that the container used within a day.
	Limit  uint64 `json:"limit,omitempty"`
	Before uint64 `json:"before,omitempty"`
	// Pressure is the part of the last ten seconds in percent that tasks of the
	// host waited for the resource (PSI).
	Pressure float64 `json:"pressure,omitempty"`
}

// Gate is a judged request to an engine.
type Gate struct {
	Engine  string  `json:"engine"`
	Action  string  `json:"action"` // create, start, exec, update, build, …
	User    string  `json:"user,omitempty"`
	Verdict Verdict `json:"verdict"`
}

// ImageVerdict is a verdict about an image that is not the one before: new
// intelligence or another policy changed it.
type ImageVerdict struct {
	Image      Image   `json:"image"`
	WasAllowed bool    `json:"wasAllowed"`
	Verdict    Verdict `json:"verdict"`
}

// The codes of notices about containers.
const (
	NoticeAppeared = "appeared" // its cgroup exists
	NoticeGone     = "gone"     // its cgroup was removed
)

// NoticeUnreadable is the code of a notice that the kernel programs report what
// the agent cannot read.
const NoticeUnreadable = "unreadable"

// NoticeUncovered is the code of a notice that a policy's rules about files do not
// hold for all the files that they speak of.
const NoticeUncovered = "uncovered"

// The codes of notices about resources.
const (
	NoticeThrottleLifted = "throttle_lifted" // a container has its former limits again
	NoticePressure       = "pressure"        // the host is short of something, and no container causes it
	NoticeNoPressure     = "no_pressure"     // the kernel does not tell of pressure on the host
)

// Notice is something the agent says about itself or its host.
type Notice struct {
	Code    string `json:"code"` // started, stopped, lost, cannot_enforce, clock_back, …
	Message string `json:"message"`
	Count   uint64 `json:"count,omitempty"`
}
