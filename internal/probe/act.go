package probe

// act is one harmless thing that a canary does when told. Each is chosen so
// that it leaves nothing behind whether it is let through or not.
type act struct {
	Do      string `json:"do"`
	Path    string `json:"path,omitempty"`
	Address string `json:"address,omitempty"` // ip:port
	PID     int    `json:"pid,omitempty"`
	Amount  int    `json:"amount,omitempty"` // bytes, or milliseconds of processor time
	Write   bool   `json:"write,omitempty"`
}

// The acts. In brackets what a host answers that lets them through.
const (
	doNothing  = "nothing"   // [0] proves that the canary is alive
	doExec     = "exec"      // becomes Path: does not answer, the program does
	doMemfd    = "memfd"     // becomes a program in memory, likewise
	doFork     = "fork"      // [0] runs Path as a child
	doOpen     = "open"      // [0] opens Path, for writing if Write
	doTCP      = "tcp"       // [0] connects to Address
	doFastOpen = "fastopen"  // [0] connects by a first datagram (TCP Fast Open)
	doUDP      = "udp"       // [0] one datagram to Address, unconnected
	doBind     = "bind"      // [0] binds a free port of Address
	doRaw      = "raw"       // [0] opens a raw socket
	doUnix     = "unix"      // [0] connects to the socket at Path
	doSysctl   = "sysctl"    // [0] writes to Path what it reads there
	doMount    = "mount"     // [ENODEV] mounts a file system type that no kernel has
	doPeek     = "peek"      // [EFAULT] reads address 0 of the process PID
	doBPF      = "bpf"       // [EINVAL] bpf(2) with a command that no kernel has
	doSeccomp  = "seccomp"   // [0] confines itself by a filter; stays so
	doDropCaps = "drop caps" // [0] gives its capabilities up; stays so
	doReadOnly = "read-only" // [0] remounts Path read-only in a mount namespace of its own; stays so
	doAllocate = "allocate"  // [0] touches Amount bytes
	doSpin     = "spin"      // [0] uses Amount milliseconds of processor time
)

// answer is what came of an act: the errno of the call, 0 when it was let
// through.
type answer struct {
	Errno int `json:"errno"`
	// Error is set when the canary could not even try.
	Error string `json:"error,omitempty"`
}
