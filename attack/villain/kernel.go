package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// mine begins to talk to a pool as miners do.
func mine(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(`{"id": 1, "method": "mining.subscribe", "params": ["miner/1"]}` + "\n"))
	return err
}

// ask sends a question of DNS and lives on.
func ask(server, name, file string) error {
	raw, err := question(name)
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	return later(file)
}

// question asks for a name's address.
func question(name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// listen waits for somebody, but not for long.
func listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	return l.Close()
}

// engine asks a container engine for its version.
func engine(path, file string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /version HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 64)); err != nil {
		return err
	}
	return mark(file)
}

// socket opens a socket past the rules for connections.
func socket(kind, file string) error {
	kinds := map[string][3]int{
		"raw":    {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP},
		"raw6":   {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"xdp":    {unix.AF_XDP, unix.SOCK_RAW, 0},
	}
	k, known := kinds[kind]
	if !known {
		return fmt.Errorf("no socket %s", kind)
	}
	fd, err := unix.Socket(k[0], k[1], k[2])
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return mark(file)
}

// calls ask the kernel for what no container has any business with, so that
// nothing comes of it even where they are allowed: with arguments that the
// kernel refuses after it asked for the right. Whoever lives on was let through.
func calls() map[string]func() error {
	raw := func(number uintptr, a ...uintptr) func() error {
		return func() error {
			var args [6]uintptr
			copy(args[:], a)
			_, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5])
			if errno != 0 {
				return errno
			}
			return nil
		}
	}
	nothing := []byte("no-such-module\x00")
	return map[string]func() error{
		"init-module":   raw(unix.SYS_INIT_MODULE, 0, 0, uintptr(unsafe.Pointer(&nothing[0]))),
		"finit-module":  func() error { return unix.FinitModule(0, "", 0) },
		"delete-module": raw(unix.SYS_DELETE_MODULE, uintptr(unsafe.Pointer(&nothing[0])), 0),
		"kexec-load":    raw(unix.SYS_KEXEC_LOAD, 0, 1<<20, 0, 0),
		"bpf":           loadProgram,
		"handle":        openHandle,
		"setns":         ownNamespace,
		"userfaultfd":   raw(unix.SYS_USERFAULTFD, 0),
		"mount":         func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
		"ports":         raw(172, 3), // iopl, which x86-64 alone has
		"kernel-log": func() error {
			_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 64))
			return err
		},
	}
}

// impossible is the exit status that says that a kernel has not got what an
// attack needs.
const impossible = 77

// call makes one of them and works on.
func call(name, file string) error {
	do := calls()[name]
	if do == nil {
		return fmt.Errorf("no call %s", name)
	}
	err := do()
	if errors.Is(err, unix.ENOSYS) {
		fmt.Fprintln(os.Stderr, "attack: this kernel has no such call")
		os.Exit(impossible)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return err
	}
	return later(file)
}

// loadProgram gives the kernel a program that returns at once.
func loadProgram() error {
	code := [...]uint64{0xb7, 0x95} // r0 = 0; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, length  uint32
		code, license uint64
		rest          [12]uint64
	}{kind: 1, length: uint32(len(code)), code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	const load = 5
	fd, _, errno := unix.Syscall(unix.SYS_BPF, load, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&code)
	runtime.KeepAlive(&license)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// openHandle opens a file by its handle.
func openHandle() error {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/etc/hostname", 0)
	if err != nil {
		return err
	}
	dir, err := unix.Open("/etc/hostname", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, handle, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// ownNamespace enters a namespace with the right to enter others.
func ownNamespace() error {
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWUTS)
}

// ptrace attaches to a process of another user.
func ptrace(file string) error {
	victim := exec.Command("/proc/self/exe", "wait")
	victim.Args[0] = "attack"
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 10002, Gid: 10002}, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := victim.Start(); err != nil {
		return err
	}
	defer func() { _ = victim.Process.Kill() }() // Pdeathsig ends it as well
	if err := unix.PtraceAttach(victim.Process.Pid); err != nil {
		return err
	}
	return later(file)
}

// namespace makes a user namespace, in which it has every right.
func namespace() error {
	cmd := exec.Command("/proc/self/exe", "lo-up")
	cmd.Args[0] = "attack"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// loopbackUp changes a network, which needs CAP_NET_ADMIN.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
