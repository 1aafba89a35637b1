package confine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/confine"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confine.Command {
		child()
		return
	}
	os.Exit(m.Run())
}

// child does what its standard input says, after Enter.
func child() {
	order, _ := io.ReadAll(os.Stdin)
	budget := confine.DefaultBudget()
	switch string(order) {
	case "cpu":
		budget.CPU = 1
	case "memory":
		budget.Memory = 256 << 20
	}
	uid := os.Getuid() // Enter takes even that away
	missing := confine.Enter(budget)
	switch string(order) {
	case "acts":
		_ = json.NewEncoder(os.Stdout).Encode(acts(missing, uid))
	case "panic":
		panic("secret\x1b[31m")
	case "memory":
		var hold [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			hold = append(hold, b)
			runtime.KeepAlive(hold)
		}
	case "cpu":
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	case "wait":
		fmt.Println("waiting")
		_, _ = io.ReadAll(os.NewFile(3, "wait"))
	}
}

// result is what became of every forbidden act.
type result struct {
	Missing []string
	Acts    map[string]string
	UID     int
	Content string
	// Received is what a file held that came over the socket.
	Received string
}

func acts(missing []string, uid int) result {
	r := result{Missing: missing, UID: uid, Acts: map[string]string{}}
	try := func(name string, act func() error) {
		if err := act(); err != nil {
			r.Acts[name] = err.Error()
		} else {
			r.Acts[name] = ""
		}
	}
	// Threads made before and after Enter both count.
	for i := range 4 {
		got := make(chan error)
		go func() {
			runtime.LockOSThread() // forces a thread of its own
			_, err := os.Open("/etc/passwd")
			got <- err
		}()
		err := <-got
		try(fmt.Sprintf("open on thread %d", i), func() error { return err })
	}
	try("open", func() error { _, err := os.ReadFile("/etc/passwd"); return err })
	try("open own memory", func() error { _, err := os.Open("/proc/self/mem"); return err })
	try("write", func() error { return os.WriteFile("/tmp/confined-reader-was-here", nil, 0o600) })
	try("list", func() error { _, err := os.ReadDir("/"); return err })
	try("dial tcp", func() error { _, err := net.Dial("tcp", "127.0.0.1:22"); return err })
	try("dial unix", func() error { _, err := net.Dial("unix", "/var/run/docker.sock"); return err })
	try("socket", func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); return err })
	try("execve", func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) })
	try("fork", func() error { return exec.Command("/bin/true").Run() })
	try("ptrace", func() error { return unix.PtraceAttach(1) })
	try("kill", func() error { return unix.Kill(-1, 0) })
	try("bpf", func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0); return asError(e) })
	try("io_uring", func() error { _, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0); return asError(e) })
	try("memfd", func() error { _, err := unix.MemfdCreate("x", 0); return err })
	try("setuid", func() error { _, _, e := unix.RawSyscall(unix.SYS_SETUID, 0, 0, 0); return asError(e) })
	try("unshare", func() error { return unix.Unshare(unix.CLONE_NEWUSER) })
	try("mount", func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") })
	content, _ := io.ReadAll(os.NewFile(3, "given"))
	r.Content = string(content)
	r.Received = handedOver(try)
	return r
}

// handedOver takes a file from the socket in descriptor 4, and tries what more
// could be done with the two.
func handedOver(try func(string, func() error)) string {
	const socket = 4
	buf, oob := make([]byte, 100), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, buf, oob, 0)
	if err != nil {
		return err.Error()
	}
	messages, _ := unix.ParseSocketControlMessage(oob[:n])
	if len(messages) == 0 {
		return "nothing came"
	}
	fds, _ := unix.ParseUnixRights(&messages[0])
	file := fds[0]
	n, _ = unix.Read(file, buf)
	try("connect of a socket it was given", func() error {
		return unix.Connect(socket, &unix.SockaddrUnix{Name: "/var/run/docker.sock"})
	})
	try("sending a descriptor", func() error { return unix.Sendmsg(socket, []byte("x"), unix.UnixRights(file), nil, 0) })
	try("sending to an address", func() error {
		return unix.Sendto(socket, []byte("x"), 0, &unix.SockaddrUnix{Name: "/var/run/docker.sock"})
	})
	try("listen", func() error { return unix.Listen(socket, 1) })
	try("accept", func() error { _, _, err := unix.Accept(socket); return err })
	try("setsockopt", func() error { return unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20) })
	try("open beside a file it was given", func() error { _, err := unix.Openat(file, "..", unix.O_RDONLY, 0); return err })
	try("open of a file it was given", func() error { _, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", file), unix.O_RDWR, 0); return err })
	try("write to a file it was given", func() error { _, err := unix.Write(file, []byte("x")); return err })
	try("truncate", func() error { return unix.Ftruncate(file, 0) })
	try("chmod", func() error { return unix.Fchmod(file, 0o4755) })
	try("chown", func() error { return unix.Fchown(file, 0, 0) })
	try("change folder", func() error { return unix.Fchdir(file) })
	try("ioctl", func() error { _, err := unix.IoctlGetInt(file, unix.FS_IOC_GETFLAGS); return err })
	return string(buf[:n])
}

func asError(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func run(t *testing.T, ctx context.Context, order string, files ...*os.File) (string, []string, error) {
	t.Helper()
	var out bytes.Buffer
	missing, err := confine.Run(ctx, confine.Child{Stdin: strings.NewReader(order), Stdout: &out, Files: files})
	return out.String(), missing, err
}

func pipe(t *testing.T, content string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		_, _ = io.WriteString(w, content)
		w.Close()
	}()
	return r
}

// socketWithFile is a socket on which an open file lies.
func socketWithFile(t *testing.T, content string) *os.File {
	t.Helper()
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	child := os.NewFile(uintptr(fds[1]), "socket")
	t.Cleanup(func() { child.Close() })
	return child
}

func TestChildCanOnlyCompute(t *testing.T) {
	out, missing, err := run(t, t.Context(), "acts", pipe(t, "what it was given"), socketWithFile(t, "what was handed over"))
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for name, failure := range r.Acts {
		if failure == "" {
			t.Errorf("%s succeeded in the confined child", name)
		}
	}
	if r.Received != "what was handed over" {
		t.Errorf("received %q", r.Received)
	}
	if len(r.Acts) < 32 {
		t.Errorf("only %d acts were tried", len(r.Acts))
	}
	if r.Content != "what it was given" {
		t.Errorf("read %q from the descriptor it was given", r.Content)
	}
	if os.Geteuid() == 0 && r.UID != 65534 {
		t.Errorf("the child ran as user %d", r.UID)
	}
	t.Logf("missing here: parent %q, child %q", missing, r.Missing)
	for _, m := range r.Missing {
		if strings.Contains(m, "seccomp") || strings.Contains(m, "could") {
			t.Errorf("missing: %s", m)
		}
	}
	if _, err := os.Stat("/tmp/confined-reader-was-here"); err == nil {
		t.Error("the child wrote a file")
	}
}

func TestCrashIsOneSentence(t *testing.T) {
	for order, want := range map[string]string{
		"panic":  "crashed",
		"memory": "memory",
		"cpu":    "CPU time",
	} {
		t.Run(order, func(t *testing.T) {
			_, _, err := run(t, t.Context(), order)
			var crash *confine.CrashError
			if !errors.As(err, &crash) || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want a crash naming %q", err, want)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "goroutine") {
				t.Errorf("not one clean sentence: %q", err)
			}
		})
	}
}

// firstWrite tells when something was written.
type firstWrite struct{ c chan struct{} }

func (w firstWrite) Write(p []byte) (int, error) {
	select {
	case w.c <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestContextEndKillsTheChild(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the test's own limit"))
	defer cancel()
	r, w, err := os.Pipe() // never written: the child waits forever
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	waiting := make(chan struct{}, 1)
	ended := make(chan error)
	go func() {
		_, err := confine.Run(ctx, confine.Child{Stdin: strings.NewReader("wait"), Stdout: firstWrite{waiting}, Files: []*os.File{r}})
		ended <- err
	}()
	<-waiting
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("got %v", err)
	}
}
