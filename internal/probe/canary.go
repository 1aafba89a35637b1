//go:build linux

package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Canary is the other side of Run: the process that Run starts by
// Options.Canary calls it with its standard input and output. It does each
// act that it is told, answers, and returns when the input ends. An act that
// succeeds in replacing the program does not return at all.
func Canary(in io.Reader, out io.Writer) error {
	runtime.LockOSThread() // some acts confine the thread for good
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var a act
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return fmt.Errorf("canary: %w", err)
		}
		if err := answers.Encode(reply(perform(a))); err != nil {
			return fmt.Errorf("canary: %w", err)
		}
	}
	return lines.Err()
}

func reply(err error) answer {
	var errno syscall.Errno
	switch {
	case err == nil:
		return answer{}
	case errors.As(err, &errno):
		return answer{Errno: int(errno)}
	default:
		return answer{Error: err.Error()}
	}
}

func perform(a act) error {
	switch a.Do {
	case doNothing:
		return nil
	case doExec:
		return syscall.Exec(a.Path, []string{a.Path}, nil)
	case doMemfd:
		return execMemfd()
	case doFork:
		return fork(a.Path)
	case doOpen:
		return open(a.Path, a.Write)
	case doTCP, doFastOpen, doUDP, doBind:
		return network(a)
	case doRaw:
		return closing(unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP))
	case doUnix:
		return connectUnix(a.Path)
	case doSysctl:
		return rewrite(a.Path)
	case doMount:
		return unix.Mount("none", a.Path, "breakwater-none", 0, "")
	case doPeek:
		return peek(a.PID)
	case doBPF:
		return bpfCall()
	case doSeccomp:
		return confine()
	case doDropCaps:
		return dropCapabilities()
	case doReadOnly:
		return readOnly(a.Path)
	case doAllocate:
		return allocate(a.Amount)
	case doSpin:
		return spin(a.Amount)
	}
	return fmt.Errorf("canary: no act %q", a.Do)
}

func closing(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func execMemfd() error {
	program, err := canaryProgram()
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("breakwater-canary", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, program); err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	return syscall.Exec(path, []string{path}, nil)
}

func fork(path string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
	if err != nil {
		return err
	}
	var status syscall.WaitStatus
	_, err = syscall.Wait4(pid, &status, 0, nil)
	return err
}

func open(path string, write bool) error {
	flags := unix.O_RDONLY | unix.O_CLOEXEC
	if write {
		flags = unix.O_WRONLY | unix.O_CLOEXEC
	}
	return closing(unix.Open(path, flags, 0))
}

func network(a act) error {
	to, err := netip.ParseAddrPort(a.Address)
	if err != nil {
		return err
	}
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	if a.Do == doUDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch a.Do {
	case doTCP:
		return unix.Connect(fd, sockaddr(to))
	case doFastOpen:
		return unix.Sendto(fd, []byte("canary"), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, sockaddr(to))
	case doBind:
		return unix.Bind(fd, sockaddr(netip.AddrPortFrom(to.Addr(), 0)))
	}
	return unix.Sendto(fd, []byte("canary"), unix.MSG_NOSIGNAL, sockaddr(to))
}

func sockaddr(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
}

func connectUnix(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// rewrite writes a file's present content to it.
func rewrite(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, content)
	return err
}

func peek(pid int) error {
	var b [1]byte
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(1)
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0, Len: 1}}, 0)
	return err
}

func bpfCall() error {
	var attr [128]byte
	_, _, errno := unix.Syscall(unix.SYS_BPF, 0x7fff, uintptr(unsafe.Pointer(&attr[0])), unsafe.Sizeof(attr))
	if errno != 0 {
		return errno
	}
	return nil
}

// confine sets a seccomp filter that refuses mount, process_vm_readv and bpf.
func confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	refused := []uint32{unix.SYS_MOUNT, unix.SYS_PROCESS_VM_READV, unix.SYS_BPF}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for i, nr := range refused {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(refused) - i)})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

func dropCapabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&head, &none[0])
}

// readOnly binds a folder to itself, read-only, where only this thread sees it.
func readOnly(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func allocate(n int) error {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return unix.Munmap(b)
}

func spin(milliseconds int) error {
	used := func() (int64, error) {
		var u unix.Rusage
		err := unix.Getrusage(unix.RUSAGE_THREAD, &u)
		return u.Utime.Nano() + u.Stime.Nano(), err
	}
	start, err := used()
	for now := start; err == nil && now-start < int64(milliseconds)*1e6; {
		now, err = used()
	}
	return err
}
