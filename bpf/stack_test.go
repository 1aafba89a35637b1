package bpf_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/cilium/ebpf/asm"
)

// maxStack is what a program and a function that it calls have together
// (MAX_BPF_STACK, kernel/bpf/verifier.c); kernels before 6.13 count both.
const maxStack = 512

// Newer kernels give functions a stack of their own, so that a program which older
// ones refuse would load here.
func TestProgramsFitTheStackOfOldKernels(t *testing.T) {
	seen := map[string]bool{}
	for _, host := range []bpf.Host{
		{}, {Direct: true}, {Direct: true, Traces: true},
		{Tier1: true, Registers: true, Paths: true}, {Tier1: true, Registers: true, Paths: true, Direct: true},
	} {
		for _, o := range host.Objects() {
			spec, err := o.Spec()
			if err != nil {
				t.Fatal(err)
			}
			for name, p := range spec.Programs {
				id := bpf.Version([]bpf.Object{o}) + name
				if seen[id] {
					continue
				}
				seen[id] = true
				depths := stacks(p.Instructions)
				main, called := depths[name], 0
				for function, depth := range depths {
					if function != name {
						called = max(called, depth)
					}
				}
				if main == 0 {
					t.Errorf("%s of %s: no function of its name", name, o.Name)
				}
				if main+called > maxStack {
					t.Errorf("%s of %s: %d bytes of stack and %d of a function that it calls, together more than %d", name, o.Name, main, called, maxStack)
				}
			}
		}
	}
}

// stacks is how deep each function's stack is, in the verifier's steps of 32 bytes.
func stacks(list asm.Instructions) map[string]int {
	depths := map[string]int{}
	function := ""
	base := map[asm.Register]bool{} // hold the stack's address
	for _, ins := range list {
		if s := ins.Symbol(); s != "" {
			function = s
		}
		deep, class := 0, ins.OpCode.Class()
		switch {
		case class.IsLoad():
			if ins.Src == asm.RFP {
				deep = -int(ins.Offset)
			}
			base[ins.Dst] = false
		case class.IsStore() && ins.Dst == asm.RFP:
			deep = -int(ins.Offset)
		case ins.OpCode.ALUOp() == asm.Mov:
			base[ins.Dst] = ins.OpCode.Source() == asm.RegSource && ins.Src == asm.RFP
		case ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && base[ins.Dst]:
			deep = -int(ins.Constant)
		case class.IsALU():
			base[ins.Dst] = false
		case ins.OpCode.JumpOp() == asm.Call:
			clear(base)
		}
		depths[function] = max(depths[function], (deep+31)/32*32)
	}
	return depths
}
