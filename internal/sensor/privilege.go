package sensor

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"golang.org/x/net/dns/dnsmessage"
)

// capabilityNames by number, without CAP_ (include/uapi/linux/capability.h).
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

func capabilityName(n uint32) string {
	if int(n) < len(capabilityNames) {
		return capabilityNames[n]
	}
	return fmt.Sprint(n)
}

// capabilitySets remembers the lists of the few sets that a host's programs have.
// It is used by one goroutine at a time, as its decoder is.
type capabilitySets map[uint64][]string

const maxCapabilitySets = 256

// names lists a set; the list is shared.
func (c capabilitySets) names(set uint64) []string {
	list, ok := c[set]
	if !ok {
		if len(c) >= maxCapabilitySets {
			clear(c)
		}
		list = capabilities(set)
		c[set] = list
	}
	return list
}

func capabilities(set uint64) []string {
	var list []string
	for i, name := range capabilityNames {
		if set>>i&1 != 0 {
			list = append(list, name)
		}
	}
	return list
}

func (d *decoder) privilege(r *bpf.PrivilegeEvent) record {
	rec := d.start(&r.Head, event.KindPrivilege)
	p := &event.Privilege{Granted: r.Granted != 0}
	if r.Capability == bpf.NoCapability {
		p.Device, p.Call = fmt.Sprintf("%d:%d", r.Args[0], r.Args[1]), deviceUse(r.Call)
	} else {
		p.Capability, p.Call = capabilityName(r.Capability), callName(r.Call, r.Compat != 0, runtime.GOARCH)
	}
	rec.event.Privilege = p
	d.judge(&rec.event, &r.Head, func(event.Control) string { return whyPrivilege(p) })
	return rec
}

func whyPrivilege(p *event.Privilege) string {
	if p.Device != "" {
		return fmt.Sprintf("the block device %s was to be used (%s) from inside a container", p.Device, p.Call)
	}
	return fmt.Sprintf("%s was called from inside a container with the right %s", p.Call, p.Capability)
}

// deviceUse: BPF_DEVCG_ACC_* of include/uapi/linux/bpf.h.
func deviceUse(access uint32) string {
	var uses []string
	for i, use := range []string{"mknod", "read", "write"} {
		if access>>i&1 != 0 {
			uses = append(uses, use)
		}
	}
	return strings.Join(uses, ",")
}

// callName names the calls that need a right (the kernel's tables of system
// calls: arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h).
func callName(number uint32, compat bool, arch string) string {
	table := map[uint32]string(nil)
	switch {
	case compat:
	case arch == "amd64":
		table = callsAMD64()
	case arch == "arm64":
		table = callsARM64()
	}
	if name := table[number]; name != "" {
		return name
	}
	return fmt.Sprint("syscall ", number)
}

func callsAMD64() map[uint32]string {
	return map[uint32]string{
		0: "read", 1: "write", 2: "open", 16: "ioctl", 41: "socket", 54: "setsockopt", 62: "kill", 101: "ptrace", 103: "syslog", 109: "setpgid",
		133: "mknod", 155: "pivot_root", 161: "chroot", 163: "acct", 164: "settimeofday", 165: "mount",
		166: "umount2", 167: "swapon", 168: "swapoff", 169: "reboot", 170: "sethostname", 171: "setdomainname",
		172: "iopl", 173: "ioperm", 175: "init_module", 176: "delete_module", 227: "clock_settime", 246: "kexec_load",
		248: "add_key", 250: "keyctl", 257: "openat", 259: "mknodat", 272: "unshare", 298: "perf_event_open", 300: "fanotify_init",
		303: "name_to_handle_at", 304: "open_by_handle_at", 305: "clock_adjtime", 308: "setns", 310: "process_vm_readv",
		311: "process_vm_writev", 313: "finit_module", 317: "seccomp", 320: "kexec_file_load", 321: "bpf", 323: "userfaultfd",
		426: "io_uring_enter", 428: "open_tree", 429: "move_mount", 430: "fsopen", 431: "fsconfig", 432: "fsmount", 433: "fspick",
		437: "openat2", 442: "mount_setattr",
	}
}

func callsARM64() map[uint32]string {
	return map[uint32]string{
		29: "ioctl", 33: "mknodat", 39: "umount2", 40: "mount", 41: "pivot_root", 51: "chroot", 56: "openat", 63: "read", 64: "write",
		89: "acct", 97: "unshare", 104: "kexec_load", 105: "init_module", 106: "delete_module", 112: "clock_settime",
		116: "syslog", 117: "ptrace", 129: "kill", 142: "reboot", 161: "sethostname", 162: "setdomainname", 170: "settimeofday",
		198: "socket", 208: "setsockopt", 217: "add_key", 219: "keyctl", 224: "swapon", 225: "swapoff", 241: "perf_event_open",
		262: "fanotify_init", 264: "name_to_handle_at", 265: "open_by_handle_at", 266: "clock_adjtime", 268: "setns",
		270: "process_vm_readv", 271: "process_vm_writev", 273: "finit_module", 277: "seccomp", 280: "bpf", 282: "userfaultfd",
		294: "kexec_file_load", 426: "io_uring_enter", 428: "open_tree", 429: "move_mount", 430: "fsopen", 431: "fsconfig",
		432: "fsmount", 433: "fspick", 437: "openat2", 442: "mount_setattr",
	}
}

func (d *decoder) listen(r *bpf.NetEvent) record {
	rec := d.start(&r.Head, event.KindListen)
	rec.event.Network = &event.Network{Family: family(r.Family), Transport: transport(r.Transport), Port: int(r.Port)}
	return rec
}

// question reads the first question of a message of DNS; what is none is told
// with an empty name.
func (d *decoder) question(r *bpf.FlowEvent) record {
	rec := d.start(&r.Head, event.KindDNS)
	n := &event.Question{Server: address(r.Addr)}
	var p dnsmessage.Parser
	if _, err := p.Start(r.Data[:min(int(r.Len), len(r.Data))]); err == nil {
		if q, err := p.Question(); err == nil {
			n.Name = strings.ToValidUTF8(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), "\uFFFD")
			n.Type = strings.TrimPrefix(q.Type.String(), "Type")
		}
	}
	rec.event.DNS = n
	return rec
}
