package sensor

import (
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/cilium/ebpf/btf"
)

func testDecoder() *decoder {
	return &decoder{host: "h", boot: "b", sets: capabilitySets{}, now: func(boot uint64) time.Time { return time.Unix(0, int64(boot)) }}
}

func bytesOf[T any](v *T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))...)
}

func head(kind uint8) bpf.Head {
	h := bpf.Head{Time: 5_000_000_000, Start: 4_000_000_000, ParentStart: 3_000_000_000, Pid: 7, Ppid: 6, Uid: 1000, Kind: kind, Slot: 2, Control: bpf.NoControl}
	copy(h.Comm[:], "sh")
	for i := range h.Id {
		h.Id[i] = 'a'
	}
	return h
}

// records are one of each kind, and the fuzz target's seeds.
func records() map[event.Kind][]byte {
	exec := &bpf.ExecEvent{Head: head(bpf.KindExec), Flags: bpf.ExecUpper | bpf.ExecScript, Dev: 8<<20 | 300, ArgsLen: 9}
	exec.Head.Control, exec.Head.Outcome, exec.Head.Mode, exec.Head.Mechanism = bpf.ControlDrift, bpf.OutcomeKilled, bpf.ModeBlock, bpf.MechanismExecKill
	copy(exec.Path[:], "/bin/sh")
	copy(exec.Script[:], "/tmp/x")
	copy(exec.Args[:], "sh\x00-c\x00\xff\x00\x00")
	open := &bpf.OpenEvent{Head: head(bpf.KindOpen), Magic: 0x27e0eb, Write: 1}
	copy(open.Path[:], "/c/release_agent")
	net := &bpf.NetEvent{Head: head(bpf.KindConnect), Port: 53, Transport: 17, Family: 2, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 1}}
	net.Head.Control, net.Head.Outcome, net.Head.Repeats = bpf.ControlNetwork, bpf.OutcomePrevented, 4
	socket := &bpf.NetEvent{Head: head(bpf.KindSocket), Family: 17, Transport: 255}
	flow := &bpf.FlowEvent{Head: head(bpf.KindFlow), Family: 10, Port: 3333, Len: 2, Addr: [16]byte{0: 0x20, 1: 1}}
	copy(flow.Data[:], "{}garbage")
	return map[event.Kind][]byte{
		event.KindFork:      bytesOf(&bpf.ForkEvent{Head: head(bpf.KindFork)}),
		event.KindExec:      bytesOf(exec),
		event.KindExit:      bytesOf(&bpf.ExitEvent{Head: head(bpf.KindExit), Code: 3<<8 | 9}),
		event.KindFileOpen:  bytesOf(open),
		event.KindConnect:   bytesOf(net),
		event.KindSocket:    bytesOf(socket),
		event.KindFlow:      bytesOf(flow),
		event.KindContainer: bytesOf(&bpf.ContainerEvent{Head: head(bpf.KindContainer), Gone: 1}),
	}
}

func TestDecode(t *testing.T) {
	got := map[event.Kind]event.Event{}
	for kind, raw := range records() {
		rec, err := testDecoder().decode(raw)
		if err != nil || rec.event.Kind != kind {
			t.Fatalf("%s: %v, kind %s", kind, err, rec.event.Kind)
		}
		got[kind] = rec.event
	}
	x := got[event.KindExec]
	want := &event.Exec{Path: "/bin/sh", Script: "/tmp/x", Device: 0x10082c, Upper: true}
	if !reflect.DeepEqual(x.Exec, want) {
		t.Errorf("exec: %+v", x.Exec)
	}
	if p := x.Process; p.ID != "7-4000000000" || p.ParentID != "6-3000000000" || !reflect.DeepEqual(p.Args, []string{"sh", "-c", "\uFFFD"}) {
		t.Errorf("process: %+v", p)
	}
	if d := x.Decision; d.Outcome != event.Killed || d.Why != "/bin/sh was not in the image: it was written to the container's layer; it was killed before its first instruction." {
		t.Errorf("decision: %+v", d)
	}
	if e := got[event.KindExit].Exit; e.Code != 3 || e.Signal != 9 {
		t.Errorf("exit: %+v", e)
	}
	if d := got[event.KindConnect].Decision; d.Why != "policy does not allow 192.0.2.1:53; it was refused (and 4 times more since)." {
		t.Errorf("why: %s", d.Why)
	}
	if n := got[event.KindFlow].Network; n.Head != "{}" || n.Address != "2001::" {
		t.Errorf("flow: %+v", n)
	}
	if n := got[event.KindSocket].Network; n.Family != "packet" || n.Transport != "raw" || n.Address != "" {
		t.Errorf("socket: %+v", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, raw := range records() {
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
		decided := slices.Clone(raw) // by every control, also those that no program reports with this kind
		for control := range uint8(17) {
			decided[unsafe.Offsetof(bpf.Head{}.Control)] = control
			decided[unsafe.Offsetof(bpf.Head{}.Outcome)] = bpf.OutcomeKilled
			f.Add(slices.Clone(decided))
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		rec, err := testDecoder().decode(raw)
		if err != nil {
			return
		}
		// Only what the host's kernel runs by itself is no container's.
		if rec.event.Kind == "" || rec.event.Container == nil && rec.event.Kind != event.KindExec {
			t.Errorf("an event without kind or container: %+v", rec.event)
		}
	})
}

func TestDevices(t *testing.T) {
	for _, stat := range []uint64{0, 41, 0x801, 0x10082c, 0xfff<<8 | 0xff} {
		if got := userDevice(KernelDevice(stat)); got != stat {
			t.Errorf("%#x → %#x", stat, got)
		}
	}
}

// What Go reads is laid out as the compiler laid out what C writes.
func TestLayouts(t *testing.T) {
	spec, err := bpf.Host{Direct: true}.Objects()[0].Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, goType := range map[string]any{
		"slot": bpf.Slot{}, "config": bpf.Config{}, "container": bpf.Container{}, "id_key": bpf.IDKey{}, "proc": bpf.Proc{},
		"path_key": bpf.PathKey{}, "path_rule": bpf.PathRule{}, "net_key": bpf.NetKey{}, "net_rules": bpf.NetRules{},
		"file_key": bpf.FileKey{}, "counter": bpf.Counter{}, "head": bpf.Head{}, "exec_event": bpf.ExecEvent{},
		"fork_event": bpf.ForkEvent{}, "exit_event": bpf.ExitEvent{}, "open_event": bpf.OpenEvent{}, "net_event": bpf.NetEvent{},
		"flow_event": bpf.FlowEvent{}, "container_event": bpf.ContainerEvent{},
	} {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		g := reflect.TypeOf(goType)
		if uintptr(c.Size) != g.Size() {
			t.Errorf("%s: %d bytes in C, %d in Go", name, c.Size, g.Size())
		}
		fields := g.NumField() - 1 // the first marks the layout as the host's
		if fields != len(c.Members) {
			t.Errorf("%s: %d members in C, %d in Go", name, len(c.Members), fields)
			continue
		}
		end := uint32(0)
		for i, m := range c.Members {
			f := g.Field(i + 1)
			if uintptr(m.Offset.Bytes()) != f.Offset {
				t.Errorf("%s.%s: at %d in C, at %d in Go", name, m.Name, m.Offset.Bytes(), f.Offset)
			}
			if m.Offset.Bytes() != end {
				t.Errorf("%s.%s: %d bytes of padding before it", name, m.Name, m.Offset.Bytes()-end)
			}
			size, _ := btf.Sizeof(m.Type)
			end = m.Offset.Bytes() + uint32(size)
		}
		if end != c.Size {
			t.Errorf("%s: %d bytes of padding at its end", name, c.Size-end)
		}
	}
}
