package probe

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func testProber(t *testing.T) *prober {
	t.Helper()
	testenv.NeedRoot(t)
	p, problem := newProber(t.Context(), Options{Canary: []string{"canary"}}, false)
	if problem != "" {
		t.Fatal(problem)
	}
	t.Cleanup(func() {
		if notes := p.close(); len(notes) > 0 {
			t.Error(notes)
		}
	})
	return p
}

// TestTry: the judgement itself, on mechanisms that do too little, too much,
// or something else.
func TestTry(t *testing.T) {
	p := testProber(t)
	nothing := func() (io.Closer, error) { return closer(func() error { return nil }), nil }
	read := act{Do: doOpen, Path: p.file}

	check := func(name string, f finding, acts, inconclusive bool, why string) {
		t.Helper()
		if f.acts != acts || f.inconclusive != inconclusive || !strings.Contains(f.why, why) {
			t.Errorf("%s: acts %v, inconclusive %v: %s", name, f.acts, f.inconclusive, f.why)
		}
	}
	check("does nothing", p.try(trial{name: "x", act: read, attach: nothing}), false, false, "attached without error and never fired")
	check("cannot be attached", p.try(trial{name: "x", act: read, attach: func() (io.Closer, error) {
		return nil, syscall.EINVAL
	}}), false, false, "invalid argument")
	check("cannot be attached now", p.try(trial{name: "x", act: read, attach: func() (io.Closer, error) {
		return nil, syscall.ENOMEM
	}}), false, true, "")
	check("refused to begin with", p.try(trial{name: "x", act: act{Do: doOpen, Path: p.file + "x"}, attach: nothing}), false, true, "unguarded")
	check("an unknown act", p.try(trial{name: "x", act: act{Do: "dance"}, attach: nothing}), false, true, `no act "dance"`)
	check("refuses everybody", p.try(p.closedSocket(t, syscall.ECONNREFUSED)), false, true, "outside of its cgroup")
	check("refuses otherwise", p.try(p.closedSocket(t, 0)), false, true, "not operation not permitted")
	check("acts on the canary alone", p.try(p.confined(trial{name: "x", act: act{Do: doRaw}}, act{Do: doDropCaps})), true, false, "refused the canary with EPERM")
}

// closedSocket is a mechanism that makes a socket refuse everybody.
func (p *prober) closedSocket(t *testing.T, refusal syscall.Errno) trial {
	t.Helper()
	path := filepath.Join(p.dir, "closing")
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	go drain(l)
	return trial{name: "x", act: act{Do: doUnix, Path: path}, refusal: refusal, attach: func() (io.Closer, error) {
		return closer(func() error { return nil }), l.Close()
	}}
}

// TestCanaryDies: a canary that is ended from outside is replaced.
func TestCanaryDies(t *testing.T) {
	p := testProber(t)
	if err := p.ready(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.in.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.inside(act{Do: doNothing}); err == nil {
		t.Error("a dead canary answered")
	}
	if errno, err := p.inside(act{Do: doNothing}); err != nil || errno != 0 {
		t.Errorf("the next canary: %v, %v", errno, err)
	}
}

// TestScopeIsTestedFirst: every program that the kernel calls for all
// processes asks whose turn it is before anything else, and leaves.
func TestScopeIsTestedFirst(t *testing.T) {
	for _, c := range []struct {
		scope scope
		asks  asm.BuiltinFunc
	}{
		{scope{cgroup: 1 << 40, tgid: 7}, asm.FnGetCurrentCgroupId},
		{scope{tgid: 7}, asm.FnGetCurrentPidTgid},
	} {
		code := c.scope.test()
		if got := code[1]; !got.IsBuiltinCall() || got.Constant != int64(c.asks) {
			t.Errorf("%+v: the second instruction is %v", c.scope, got)
		}
		if last := code[len(code)-1]; last.OpCode.JumpOp() != asm.JNE || last.Reference() != "out" {
			t.Errorf("%+v: the test ends with %v", c.scope, last)
		}
	}
}

func TestCanaryProgram(t *testing.T) {
	program, err := canaryProgram()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
		t.Errorf("%v with %d segments", f.Type, len(f.Progs))
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if code, _, err := canaryCode(arch); err != nil || !bytes.HasSuffix(code, []byte(ran)) {
			t.Errorf("%s: %v", arch, err)
		}
	}
	if _, _, err := canaryCode("pdp11"); err == nil {
		t.Error("a program for any machine")
	}
}

func TestInterpret(t *testing.T) {
	for line, want := range map[string]string{
		strings.TrimSuffix(ran, "\n"): errRan.Error(),
		`{"errno":1}`:                 "operation not permitted",
		`{"error":"no"}`:              "no",
		`{"errno":`:                   "canary said",
		"":                            "canary said",
	} {
		errno, err := interpret(line)
		if got := said(errno, err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func TestTransient(t *testing.T) {
	if transient(&mechanismError{doing: "loading", kind: "LSM", err: syscall.EPERM}) {
		t.Error("a refusal is an answer")
	}
	if !transient(&mechanismError{doing: "loading", kind: "LSM", err: errors.Join(syscall.ENOMEM)}) {
		t.Error("no memory now says nothing about the host")
	}
}

func TestReadHierarchies(t *testing.T) {
	const v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
	const v1 = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /sys/fs/cgroup/mem\\040ory cgroup rw,memory 0 0\n"
	for mounts, want := range map[string]string{"": "", "proc /proc proc rw 0 0\n": "", v2: "v2", v1: "v1", v1 + v2: "hybrid", "x\n\\": ""} {
		if got := readHierarchies(mounts).kind(); got != want {
			t.Errorf("%q: %q, want %q", mounts, got, want)
		}
	}
	h := readHierarchies(v1)
	if h.legacy["memory"] != "/sys/fs/cgroup/mem ory" || h.legacy["cpu"] != "/sys/fs/cgroup/cpu,cpuacct" {
		t.Errorf("%v", h.legacy)
	}
}

func FuzzReadHierarchies(f *testing.F) {
	f.Add("cgroup2 /sys/fs/cgr\\040oup\\ cgroup2 rw 0 0\ncgroup /x\\777 cgroup rw,pids")
	f.Fuzz(func(t *testing.T, mounts string) { readHierarchies(mounts) })
}

func FuzzStringField(f *testing.F) {
	f.Add([]byte("\x0a\x051.6.2\x12\x03abc"), uint64(1))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), uint64(1))
	f.Fuzz(func(t *testing.T, message []byte, field uint64) {
		s, err := stringField(message, field)
		if err == nil && len(s) > 3*len(message) {
			t.Errorf("%d bytes out of %d", len(s), len(message))
		}
	})
}

func FuzzInterpret(f *testing.F) {
	f.Add(`{"errno":1}`)
	f.Fuzz(func(t *testing.T, line string) { _, _ = interpret(line) })
}

func TestCanaryRefusesNonsense(t *testing.T) {
	var out bytes.Buffer
	if err := Canary(strings.NewReader("{\n"), &out); err == nil {
		t.Error("nonsense was accepted")
	}
}
