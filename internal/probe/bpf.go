//go:build linux

package probe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// scope is whom a program acts on that the kernel calls for every process:
// the scratch cgroup, or, on hosts without a v2 hierarchy, one canary.
type scope struct {
	cgroup uint64 // v2 id; 0: by process
	tgid   int
}

// test comes first in every such program: it leaves with 0 ("let it be")
// unless the current process is in scope. It keeps the context in R6.
func (s scope) test() asm.Instructions {
	keep := asm.Mov.Reg(asm.R6, asm.R1)
	if s.cgroup != 0 {
		return asm.Instructions{
			keep,
			asm.FnGetCurrentCgroupId.Call(),
			asm.LoadImm(asm.R1, int64(s.cgroup), asm.DWord),
			asm.JNE.Reg(asm.R0, asm.R1, "out"),
		}
	}
	return asm.Instructions{
		keep,
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(s.tgid), "out"),
	}
}

// end closes a program: falling into it returns verdict, "out" returns 0.
func end(verdict int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, verdict),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}

// attached is a program with its link; Close detaches.
type attached struct {
	program *ebpf.Program
	link    link.Link
	more    io.Closer
}

func (a *attached) Close() error {
	err := errors.Join(a.link.Close(), a.program.Close())
	if a.more != nil {
		err = errors.Join(err, a.more.Close())
	}
	return err
}

func load(spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (link.Link, error)) (*attached, error) {
	spec.License = "GPL"
	spec.Name = "breakwater_prob"
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, &mechanismError{doing: "loading", kind: spec.Type.String(), err: err}
	}
	l, err := attach(p)
	if err != nil {
		p.Close()
		return nil, &mechanismError{doing: "attaching", kind: spec.Type.String(), err: err}
	}
	return &attached{program: p, link: l}, nil
}

// mechanismError: the kernel does not take the program.
type mechanismError struct {
	doing, kind string
	err         error
}

func (e *mechanismError) Unwrap() error { return e.err }

func (e *mechanismError) Error() string {
	return fmt.Sprintf("%s its %s program failed: %s", e.doing, e.kind, reason(e.err))
}

// reason is an error's gist: a verifier's log is for its author.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

// hook is a place where the kernel asks what may be done: a hook of LSM, by its
// name, and the kernel's function that asks it.
type hook struct{ lsm, function string }

// The hooks that are probed (include/linux/lsm_hook_defs.h, security/security.c).
var (
	hookExec   = hook{"bprm_check_security", "security_bprm_check"}
	hookOpen   = hook{"file_open", "security_file_open"}
	hookMount  = hook{"sb_mount", "security_sb_mount"}
	hookPtrace = hook{"ptrace_access_check", "security_ptrace_access_check"}
	hookBPF    = hook{"bpf", "security_bpf"}
)

// refuser is how a program gets to such a place: as a module of LSM, which acts
// only where bpf is in the kernel's lsm= list, or in the stead of the function's
// own return value (BPF_MODIFY_RETURN, 5.7).
type refuser struct{ byReturn bool }

func (r refuser) mechanism() string {
	if r.byReturn {
		return "fmod_ret"
	}
	return "lsm"
}

func (r refuser) name(h hook) string {
	if r.byReturn {
		return "fmod_ret/" + h.function
	}
	return "lsm/" + h.lsm
}

// attach attaches a program that refuses what the hook asks about, within scope.
// The program goes through more after the scope test; more may jump to "out", and
// finds the hook's arguments at R6.
func (r refuser) attach(h hook, s scope, more ...asm.Instruction) (io.Closer, error) {
	spec := &ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: h.lsm,
		Instructions: append(append(s.test(), more...), end(-int32(syscall.EPERM))...),
	}
	if !r.byReturn {
		return load(spec, func(p *ebpf.Program) (link.Link, error) { return link.AttachLSM(link.LSMOptions{Program: p}) })
	}
	spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachModifyReturn, h.function
	return load(spec, func(p *ebpf.Program) (link.Link, error) { return link.AttachTracing(link.TracingOptions{Program: p}) })
}

// Modes in which the kernel opened a file (include/linux/fs.h).
const (
	fmodeRead  = 1
	fmodeWrite = 2
)

// opened continues a file_open program only for files opened in a mode:
// argument 0 is the struct file, whose f_mode lies where BTF says.
func opened(mode int32) ([]asm.Instruction, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	var file *btf.Struct
	if err := kernel.TypeByName("file", &file); err != nil {
		return nil, err
	}
	for _, m := range file.Members {
		if m.Name == "f_mode" {
			return []asm.Instruction{
				asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord),
				asm.LoadMem(asm.R1, asm.R1, int16(m.Offset.Bytes()), asm.Word),
				asm.And.Imm(asm.R1, mode),
				asm.JEq.Imm(asm.R1, 0, "out"),
			}, nil
		}
	}
	return nil, errors.New("this kernel's struct file has no f_mode")
}

// killAt kills a process in scope when it comes by a raw tracepoint.
func killAt(tracepoint string, s scope) (io.Closer, error) {
	code := append(s.test(), asm.Mov.Imm(asm.R1, int32(syscall.SIGKILL)), asm.FnSendSignal.Call())
	return load(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: append(code, end(0)...)}, rawTracepoint(tracepoint))
}

func rawTracepoint(name string) func(*ebpf.Program) (link.Link, error) {
	return func(p *ebpf.Program) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: p})
	}
}

// report puts an event into a ring for each firing of a raw tracepoint in scope.
func report(tracepoint string, s scope, ring *ebpf.Map) (io.Closer, error) {
	code := append(s.test(),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call())
	return load(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: append(code, end(0)...)}, rawTracepoint(tracepoint))
}

// refuse attaches a program to a v2 cgroup that refuses what it is asked
// about, unless more jumps to "pass". In cgroup programs 1 lets it be.
func refuse(dir string, kind ebpf.ProgramType, at ebpf.AttachType, more ...asm.Instruction) (io.Closer, error) {
	code := append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, more...)
	code = append(code,
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"), asm.Return())
	if len(more) == 0 { // the verifier takes no code that nothing reaches
		code = code[:3]
	}
	return load(&ebpf.ProgramSpec{Type: kind, AttachType: at, Instructions: code}, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: at, Program: p})
	})
}

// Fields of the contexts of cgroup programs (include/uapi/linux/bpf.h).
func onlyRawSockets() []asm.Instruction { // struct bpf_sock: type is the third word
	return []asm.Instruction{asm.LoadMem(asm.R1, asm.R6, 8, asm.Word), asm.JNE.Imm(asm.R1, syscall.SOCK_RAW, "pass")}
}

func onlyWrites() []asm.Instruction { // struct bpf_sysctl: write is the first word
	return []asm.Instruction{asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), asm.JEq.Imm(asm.R1, 0, "pass")}
}
