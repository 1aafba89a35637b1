package enforce_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// oldCalls writes programs that make system calls by the 32-bit entry
// (int 0x80), which every 64-bit process may use.
type oldCalls struct {
	code bytes.Buffer
	data bytes.Buffer
}

const (
	oldBase = 0x400000
	oldData = oldBase + 0x800
)

// bytes adds data and returns where it will stand.
func (o *oldCalls) bytes(b []byte) uint32 {
	at := oldData + uint32(o.data.Len())
	o.data.Write(b)
	return at
}

// call makes a system call; keep leaves ebx as the last keepResult set it.
func (o *oldCalls) call(number uint32, ebx int64, ecx, edx uint32) {
	put := func(opcode byte, v uint32) {
		o.code.WriteByte(opcode)
		_ = binary.Write(&o.code, binary.LittleEndian, v)
	}
	put(0xb8, number)
	if ebx == keptResult {
		o.code.Write([]byte{0x89, 0xf3}) // mov ebx, esi
	} else {
		put(0xbb, uint32(ebx))
	}
	put(0xb9, ecx)
	put(0xba, edx)
	o.code.Write([]byte{0xcd, 0x80}) // int 0x80
}

const keptResult = -1

func (o *oldCalls) keepResult() { o.code.Write([]byte{0x89, 0xc6}) } // mov esi, eax

// inChild lets a child with the same table of descriptors do something and end;
// the parent waits for it and goes on.
func (o *oldCalls) inChild(do func()) {
	const cloneFiles, sigchld = 0x400, 17
	o.call(120, cloneFiles|sigchld, 0, 0)
	o.code.Write([]byte{0x85, 0xc0, 0x0f, 0x85, 0, 0, 0, 0}) // test eax, eax; jnz parent
	from := o.code.Len()
	do()
	o.call(1, 0, 0, 0) // exit
	binary.LittleEndian.PutUint32(o.code.Bytes()[from-4:], uint32(o.code.Len()-from))
	o.call(7, 0xffffffff, 0, 0) // waitpid
}

// storeResult writes the last result to memory, for calls that take a block.
func (o *oldCalls) storeResult(at uint32) {
	o.code.Write([]byte{0x89, 0x04, 0x25}) // mov [at], eax
	_ = binary.Write(&o.code, binary.LittleEndian, at)
}

// program ends with the last result as exit status: 0, or the error's number.
func (o *oldCalls) program(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("left out: the 32-bit entry is amd64's")
	}
	o.code.Write([]byte{0x31, 0xdb, 0x85, 0xc0, 0x79, 0x04, 0x89, 0xc3, 0xf7, 0xdb}) // ebx = eax < 0 ? -eax : 0
	o.code.Write([]byte{0xb8, 1, 0, 0, 0, 0xcd, 0x80})                               // exit
	const head = 64 + 56
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	for _, v := range []any{
		uint16(2), uint16(62), uint32(1), uint64(oldBase + head), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(7), uint64(0), uint64(oldBase), uint64(oldBase), uint64(0x1000), uint64(0x1000), uint64(0x1000),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	b.Write(o.code.Bytes())
	b.Write(make([]byte, oldData-oldBase-b.Len()))
	b.Write(o.data.Bytes())
	b.Write(make([]byte, 0x1000-b.Len()))
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	settle(t, path)
	return path
}

func unixAddress(path string) []byte {
	b := make([]byte, 110)
	b[0] = 1 // AF_UNIX
	copy(b[2:], path)
	return b
}

// The 32-bit entry to the kernel is no way round what is always on.
func TestKernelOldEntryReleaseAgent(t *testing.T) {
	root := v1Root(t)
	g := newGuard(t)
	agent := append([]byte(filepath.Join(root, "release_agent")), 0)
	for name, number := range map[string]uint32{"open": 5, "openat": 295} {
		var o oldCalls
		at := o.bytes(agent)
		if name == "open" {
			o.call(number, int64(at), 1, 0)
		} else {
			o.call(number, 0xffffff9c, at, 1)
		}
		if r := g.box().run(o.program(t)); !r.refused() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestKernelOldEntryEngineSocket(t *testing.T) {
	g := newGuard(t)
	sock := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int, 4)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := c.Read(make([]byte, 8))
			got <- n
		}
	}()
	if err := g.SetEngineSockets([]string{sock}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"connect", "socketcall"} {
		var o oldCalls
		addr, byte1 := o.bytes(unixAddress(sock)), o.bytes([]byte("GGGG"))
		o.call(359, 1, 1, 0) // socket
		o.keepResult()
		if name == "connect" {
			o.call(362, keptResult, addr, 110)
		} else {
			args := make([]byte, 12)
			binary.LittleEndian.PutUint32(args[4:], addr)
			binary.LittleEndian.PutUint32(args[8:], 110)
			at := o.bytes(args)
			o.storeResult(at)
			o.call(102, 3, at, 0)
		}
		o.call(4, keptResult, byte1, 1) // write
		if r := g.box().run(o.program(t)); !r.killed {
			t.Errorf("%s: %+v", name, r)
		}
		if g.opts.Tier1 {
			continue // it never got a connection
		}
		if n := <-got; n != 0 {
			t.Errorf("%s: the engine got %d bytes", name, n)
		}
	}
}

// Two processes may have one table of descriptors. The kernel can end the one
// that got the engine's connection; that the other has it must be told, with
// the container's end as the answer.
func TestKernelSharedDescriptors(t *testing.T) {
	g := newGuard(t)
	sock := filepath.Join(t.TempDir(), "engine.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := g.SetEngineSockets([]string{sock}); err != nil {
		t.Fatal(err)
	}
	var o oldCalls
	addr, word := o.bytes(unixAddress(sock)), o.bytes([]byte("GGGG"))
	o.call(359, 1, 1, 0) // socket
	o.keepResult()
	o.inChild(func() { o.call(362, keptResult, addr, 110) }) // connect
	o.call(4, keptResult, word, 1)                           // write
	b := g.box()
	r := b.run(o.program(t))
	if g.opts.Tier1 {
		g.wait("refusal", decided(b.id, event.ControlDetection, event.Prevented))
		if r.code == 0 {
			t.Error("the other process has a connection")
		}
		return
	}
	if g.Objects().Quiet {
		if !r.killed { // whoever sends is stopped, whosever connection it is
			t.Errorf("the other process: %+v", r)
		}
	} else if r.code != 0 {
		t.Errorf("the attack itself failed: %+v", r)
	}
	e := g.wait("the leak", func(e event.Event) bool { return e.Container.ID == b.id && e.Decision != nil })
	if d := e.Decision; d.Outcome != event.Detected || d.Effect != event.EffectStop || !strings.Contains(d.Why, "same descriptors") {
		t.Errorf("told as %+v", d)
	}
}

func TestKernelOldEntryPacketSocket(t *testing.T) {
	g := newGuard(t)
	run := policy.Run{Network: policy.Network{Effect: event.EffectBlock, Restrict: true}}
	var direct, block oldCalls
	direct.call(359, 17, 3, 768)
	var args [12]byte
	for i, v := range []uint32{17, 3, 768} {
		binary.LittleEndian.PutUint32(args[i*4:], v)
	}
	block.call(102, 1, block.bytes(args[:]), 0)
	for name, o := range map[string]*oldCalls{"socket": &direct, "socketcall": &block} {
		if r := g.box(assign(t, g, run)).run(o.program(t)); !r.refused() {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Families that no peer rule can speak about are refused with the raw sockets.
func TestKernelOtherFamilies(t *testing.T) {
	g := newGuard(t)
	run := policy.Run{Network: policy.Network{Effect: event.EffectBlock, Restrict: true}}
	for name, act := range map[string]string{
		"XDP": "socket 44 3 0", "vsock": "socket 40 1 0", "packet": "socket 17 2 0",
	} {
		if r := g.box().act("%s", act); r.code != 0 {
			t.Logf("left out: %s: not in this kernel (%d)", name, r.code)
			continue
		}
		// No tracepoint tells of the families that need no capability: a limit, and
		// here it is. The engines' own seccomp profile refuses vsock.
		open := g.Objects().Quiet && name == "vsock"
		if r := g.box(assign(t, g, run)).act("%s", act); (r.code == 0) != open {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, act := range map[string]string{"unix": "socket 1 1 0", "netlink": "socket 16 3 0", "tcp6": "socket 10 1 0"} {
		if r := g.box(assign(t, g, run)).act("%s", act); r.code != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A new program whose file was deleted, or never had a name, is new all the
// same: drift needs no fileless control beside it.
func TestKernelDriftWithoutAFile(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	if r := g.box(assign(t, g, drift(event.EffectBlock))).act("memfd %s", tiny); !r.refused() {
		t.Errorf("from memory: %+v", r)
	}
}

// A cgroup that a container makes for itself outside its own, named like
// another container's, gives it no other policy; nor does another container's.
func TestKernelLineageBeatsOtherContainers(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	self, _ := os.Executable()
	b, lax := g.box(assign(t, g, only(self))), g.box(assign(t, g, policy.Run{}))
	if r := b.act("move %s %s", lax.dir, tiny); !r.refused() {
		t.Errorf("moved into another container: %+v\n%s", r, g.told())
	}
	fake := filepath.Join(g.parent, randomID())
	if r := b.act("mkdirmove %s %s", fake, tiny); !r.refused() {
		t.Errorf("moved into a cgroup of its own making: %+v\n%s", r, g.told())
	}
	t.Cleanup(func() { removeGroup(t, fake) })
}

// The dynamic loader runs whatever file it is given, past every exec. Where
// what it maps is seen, a new program is stopped; elsewhere the loader itself,
// unless policy names it.
func TestKernelDriftThroughTheLoader(t *testing.T) {
	loaders, _ := filepath.Glob("/lib64/ld-linux-*.so.*")
	if len(loaders) == 0 {
		t.Skip("left out: no C library's loader in /lib64")
	}
	g := newGuard(t)
	const program = "/bin/echo"
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dropped := filepath.Join(t.TempDir(), "dropped")
	if err := os.WriteFile(dropped, data, 0o644); err != nil {
		t.Fatal(err)
	}
	b := g.box(assign(t, g, drift(event.EffectBlock)))
	if r := g.box().run(loaders[0], dropped, "x"); r.out != "x\n" {
		t.Errorf("a dropped one, without a policy: %+v", r)
	}
	if r := b.run(loaders[0], dropped, "x"); !r.killed || r.out != "" {
		t.Errorf("a dropped one: %+v", r)
	}
	e := g.wait("drift", decided(b.id, event.ControlDrift, event.Killed))
	if !g.Objects().Quiet && (e.File == nil || e.File.Path != dropped) {
		t.Errorf("event: %+v", e)
	}
	if r := b.run(loaders[0], "--list", program); !strings.Contains(r.out, "libc") {
		t.Errorf("what a program needs: %+v", r)
	}
	if g.Objects().Quiet {
		if e.Exec == nil || !strings.Contains(e.Decision.Why, "told to run a program") {
			t.Errorf("event: %+v", e)
		}
		if r := b.run(loaders[0], "--library-path", "/nowhere", program, "x"); !r.killed {
			t.Errorf("with an option before it: %+v", r)
		}
		real, err := filepath.EvalSymlinks(loaders[0])
		if err != nil {
			t.Fatal(err)
		}
		named := drift(event.EffectBlock)
		named.Exec = policy.Exec{Effect: event.EffectBlock, Restrict: true, Allow: []policy.PathRule{{Pattern: real}, {Pattern: program}}}
		b = g.box(assign(t, g, named))
	}
	if r := b.run(loaders[0], program, "x"); r.out != "x\n" {
		t.Errorf("a program of the image: %+v\n%s", r, g.told())
	}
}

// A container that is refused in a storm does not drown what others did.
func TestKernelFloodOfRefusals(t *testing.T) {
	g := newGuard(t)
	run := policy.Run{Network: policy.Network{Effect: event.EffectBlock, Restrict: true}}
	storm := g.box(assign(t, g, run))
	second := storm.actCommand("flood 300000")
	if err := start(second); err != nil {
		t.Fatal(err)
	}
	if r := storm.act("flood 300000"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := g.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Dropped != 0 {
			t.Errorf("lost: %+v", a)
		}
	}
	g.wait("the storm", decided(storm.id, event.ControlNetwork, event.Prevented))
}

// A container that makes cgroups without end takes no room from the others.
func TestKernelCgroupsWithoutEnd(t *testing.T) {
	g := newGuard(t)
	tiny := program(t)
	self, _ := os.Executable()
	b := g.box(assign(t, g, only(self)))
	if r := b.act("nest %s 700 %s", b.dir, tiny); !r.refused() {
		t.Errorf("in a group of its own making: %+v", r)
	}
	var id uint64
	var c bpf.Container
	known := 0
	for entries := g.Objects().Containers.Iterate(); entries.Next(&id, &c); {
		known++
	}
	if known > 520 {
		t.Errorf("%d groups are known", known)
	}
}
