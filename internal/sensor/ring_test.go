package sensor

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// ringWriter is a program that puts the first bytes of what it is run with into
// a ring, or takes them back before anybody could read them.
func ringWriter(t *testing.T, ring *ebpf.Map, discard bool) *ebpf.Program {
	t.Helper()
	const size = 20 // no multiple of eight
	last := asm.FnRingbufSubmit
	if discard {
		last = asm.FnRingbufDiscard
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapPtr(asm.R1, ring.FD()), asm.Mov.Imm(asm.R2, size), asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "none"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.R7), asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.Mov.Reg(asm.R1, asm.R7), asm.Mov.Imm(asm.R2, 0),
		last.Call(),
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("none"), asm.Return(),
	}})
	if err != nil {
		testenv.Missing(t, "a BPF program: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// A record stays until it was passed, whoever reads, over many rounds of a ring
// and between records that were taken back.
func TestRingKeepsWhatWasNotPassed(t *testing.T) {
	testenv.NeedRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	if err != nil {
		testenv.Missing(t, "a kernel ring: %v", err)
	}
	defer m.Close()
	submit, discard := ringWriter(t, m, false), ringWriter(t, m, true)
	for n := range uint64(500) {
		writeRing(t, discard, 7)
		writeRing(t, submit, n)
		writeRing(t, discard, 7)
		readRing(t, m, n, false) // a reader that dies over it
		readRing(t, m, n, true)
	}
}

func writeRing(t *testing.T, p *ebpf.Program, n uint64) {
	t.Helper()
	const frame = 14 // the header before what such a program sees
	code, err := p.Run(&ebpf.RunOptions{Data: binary.NativeEndian.AppendUint64(make([]byte, frame, 64), n)[:64]})
	if err != nil || code != 0 {
		t.Fatalf("record %d: %d %v", n, code, err)
	}
}

func readRing(t *testing.T, m *ebpf.Map, want uint64, pass bool) {
	t.Helper()
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	record, end, err := r.next()
	if err != nil || len(record) != 20 || binary.NativeEndian.Uint64(record) != want {
		t.Fatalf("record %v, want %d: %v", record, want, err)
	}
	if !pass {
		return
	}
	r.passed(end)
	if again, _, err := r.next(); again != nil || err != nil || r.waiting() {
		t.Fatalf("after record %d: %v %v", want, again, err)
	}
}

// Whoever waits without end is woken by a record, and by an interruption, also
// by one that came before.
func TestRingWakes(t *testing.T) {
	testenv.NeedRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	if err != nil {
		testenv.Missing(t, "a kernel ring: %v", err)
	}
	defer m.Close()
	r, err := openRing(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, wake := range []func(){r.interrupt, func() { writeRing(t, ringWriter(t, m, false), 1) }} {
		woken := make(chan error, 1)
		go func() { woken <- r.wait(0) }()
		wake()
		if err := <-woken; err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}
