package enforce_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// actVar makes the test binary do one act instead of the tests: it is what
// containers of the tests run.
const actVar = "BREAKWATER_ENFORCE_ACT"

func TestMain(m *testing.M) {
	if act := os.Getenv(actVar); act != "" {
		os.Exit(perform(strings.Fields(act)))
	}
	if args := os.Getenv(loaderVar); args != "" {
		os.Exit(loader(args))
	}
	removeLeftovers()
	os.Exit(m.Run())
}

// perform does an act and returns its errno as exit status.
func perform(act []string) int {
	err := actions()[act[0]](act[1:])
	var errno syscall.Errno
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return exit.ExitCode()
	case errors.As(err, &errno):
		return int(errno)
	}
	fmt.Fprintln(os.Stderr, err)
	return 125
}

// actions are a function's and not a variable's: hold calls them too.
func actions() map[string]func([]string) error {
	return map[string]func([]string) error{
		"nothing": func([]string) error { return nil },
		// connect NETWORK ADDRESS: without a route the kernel's answer is
		// ENETUNREACH, which shows that policy let it pass.
		"connect": func(a []string) error {
			c, err := net.DialTimeout(a[0], a[1], time.Second)
			if err == nil {
				return c.Close()
			}
			return err
		},
		"send": func(a []string) error { // an unconnected datagram
			to, err := net.ResolveUDPAddr(a[0], a[1])
			if err != nil {
				return err
			}
			c, err := net.ListenUDP(a[0], nil)
			if err != nil {
				return err
			}
			_, err = c.WriteTo([]byte("x"), to)
			return err
		},
		"flood": func(a []string) error { // so many datagrams, each to another port or address
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			n, _ := strconv.Atoi(a[0])
			for i := range n {
				to := unix.SockaddrInet4{Port: 1 + i%60000, Addr: [4]byte{192, 0, 2, byte(i / 60000)}}
				_ = unix.Sendto(fd, []byte("x"), 0, &to)
			}
			return nil
		},
		"socket": func(a []string) error {
			var n [3]int
			for i := range n {
				n[i], _ = strconv.Atoi(a[i])
			}
			_, err := unix.Socket(n[0], n[1], n[2])
			return err
		},
		"bpf": func([]string) error {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
			if err != nil {
				return err
			}
			return p.Close()
		},
		"devices": func([]string) error { // by hand: a library tries other programs first
			code := [2]uint64{0x00000001_000000b7, 0x95} // r0 = 1; exit
			license := [4]byte{'G', 'P', 'L'}
			attr := struct {
				kind, count    uint32
				code, license  uint64
				level, logSize uint32
				log            uint64
			}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: 2, code: uint64(uintptr(unsafe.Pointer(&code))), license: uint64(uintptr(unsafe.Pointer(&license)))}
			fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
			runtime.KeepAlive(&code)
			runtime.KeepAlive(&license)
			if errno != 0 {
				return errno
			}
			return unix.Close(int(fd))
		},
		"handle": func([]string) error {
			fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			_, err = unix.OpenByHandleAt(fd, unix.NewFileHandle(1, make([]byte, 8)), 0)
			return err
		},
		"module":  func([]string) error { return unix.FinitModule(-1, "", 0) },
		"mount":   func(a []string) error { return unix.Mount("none", a[0], "tmpfs", 0, "") },
		"mkblock": func(a []string) error { return unix.Mknod(a[0], unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))) },
		"listen": func(a []string) error {
			l, err := net.Listen("tcp", a[0])
			if err != nil {
				return err
			}
			return l.Close()
		},
		"ask": func(a []string) error { // SERVER NAME
			c, err := net.Dial("udp", a[0])
			if err != nil {
				return err
			}
			b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
			if err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(a[1]), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET})); err != nil {
				return err
			}
			m, err := b.Finish()
			if err != nil {
				return err
			}
			_, err = c.Write(m)
			return err
		},
		"openwrite": func(a []string) error {
			f, err := os.OpenFile(a[0], os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return f.Close()
		},
		"write3": func(a []string) error { // to the descriptor 3
			_, err := os.NewFile(3, "3").WriteString(a[0])
			return err
		},
		"read": func(a []string) error {
			_, err := os.ReadFile(a[0])
			return err
		},
		"rename":   func(a []string) error { return os.Rename(a[0], a[1]) },
		"remove":   func(a []string) error { return os.Remove(a[0]) },
		"mkdir":    func(a []string) error { return os.Mkdir(a[0], 0o755) },
		"create":   func(a []string) error { return os.WriteFile(a[0], nil, 0o600) },
		"truncate": func(a []string) error { return unix.Truncate(a[0], 0) },
		"emptied": func(a []string) error { // opened to be read, and emptied by that
			fd, err := unix.Open(a[0], unix.O_RDONLY|unix.O_TRUNC, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		},
		"chmod": func(a []string) error { return os.Chmod(a[0], 0o777) },
		"chown": func(a []string) error { return os.Chown(a[0], 1, 1) },
		"link":  func(a []string) error { return os.Link(a[0], a[1]) },
		"rewrite": func(a []string) error { // writes what it reads
			old, err := os.ReadFile(a[0])
			if err != nil {
				return err
			}
			return os.WriteFile(a[0], old, 0)
		},
		"unix": func(a []string) error {
			c, err := net.Dial("unix", a[0])
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			return err
		},
		"run": func(a []string) error { return exec.Command(a[0], a[1:]...).Run() },
		"runstay": func(a []string) error { // stays until its input ends, so that it can still be asked who it is
			err := exec.Command(a[0], a[1:]...).Run()
			_, _ = io.Copy(io.Discard, os.Stdin) // how the input ends does not matter
			return err
		},
		"copyrun": copyAndRun,
		"memfd":   runFromMemory,
		"move":    moveAndRun,
		"nest": func(a []string) error { // makes so many cgroups below one, and moves into the last
			n, _ := strconv.Atoi(a[1])
			last := ""
			for i := range n {
				last = filepath.Join(a[0], fmt.Sprint("n", i))
				if err := os.Mkdir(last, 0o755); err != nil {
					return err
				}
			}
			return moveAndRun([]string{last, a[2]})
		},
		"mkdirmove": func(a []string) error {
			if err := os.Mkdir(a[0], 0o755); err != nil {
				return err
			}
			return moveAndRun(a)
		},
		"shell":   shellOverSocket,
		"stratum": stratum,
		"joinrun": joinAndRun,
		"joinact": func(a []string) error { // joins a cgroup and acts from there
			if err := os.WriteFile(a[0], []byte("0"), 0); err != nil {
				return err
			}
			return actions()[a[1]](a[2:])
		},
		"script": func(a []string) error { return writeScript(a[0], a[1], a[2:]...) },
		"hold":   hold,
	}
}

// copyAndRun FROM TO ARGS…: the dropped binary.
func copyAndRun(a []string) error {
	data, err := os.ReadFile(a[0])
	if err != nil {
		return err
	}
	if err := os.WriteFile(a[1], data, 0o755); err != nil {
		return err
	}
	c := exec.Command(a[1], a[2:]...)
	c.Stdout = os.Stdout
	return c.Run()
}

func runFromMemory(a []string) error {
	data, err := os.ReadFile(a[0])
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "memfd")
	if _, err := f.Write(data); err != nil {
		return err
	}
	c := exec.Command(fmt.Sprintf("/proc/self/fd/%d", 3))
	c.ExtraFiles = []*os.File{f}
	c.Stdout = os.Stdout
	return c.Run()
}

// moveAndRun CGROUP PROGRAM: leaves the container's cgroup, then runs.
func moveAndRun(a []string) error {
	if err := os.WriteFile(filepath.Join(a[0], "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	c := exec.Command(a[1])
	c.Stdout = os.Stdout
	return c.Run()
}

// joinAndRun CGROUP.PROCS PROGRAM: what a runtime does on v1: it enters the
// cgroup, then its mount namespace, then becomes the program.
func joinAndRun(a []string) error {
	runtime.LockOSThread()
	if err := os.WriteFile(a[0], []byte("0"), 0); err != nil {
		return err
	}
	c := exec.Command(a[1])
	c.Stdout = os.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return c.Run()
}

// shellOverSocket PROGRAM ADDRESS.
func shellOverSocket(a []string) error {
	conn, err := net.Dial("tcp", a[1])
	if err != nil {
		return err
	}
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	c := exec.Command(a[0])
	c.Stdin, c.Stdout = f, f
	return c.Run()
}

func stratum(a []string) error {
	conn, err := net.Dial("tcp", a[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, `{"id":1,"method":"mining.subscribe","params":[]}`+"\n")
	return err
}

// writeScript PATH INTERPRETER ARGS…: writes a script and runs it.
func writeScript(path, interpreter string, args ...string) error {
	if err := os.WriteFile(path, []byte("#!"+interpreter+"\n"), 0o755); err != nil {
		return err
	}
	c := exec.Command(path, args...)
	c.Stdout = os.Stdout
	return c.Run()
}

// hold writes a line and waits for one, then does the rest.
func hold(a []string) error {
	fmt.Println("ready")
	if _, err := fmt.Scanln(new(string)); err != nil {
		return err
	}
	return actions()[a[0]](a[1:])
}
