// Package bpf holds the kernel's side of Breakwater: the eBPF programs in C,
// the objects compiled from them, and the Go types of what they exchange with
// user space, all generated from the C and committed.
//
// One object serves every little-endian machine: the programs read kernel
// structures only through relocations that the loader resolves from the
// running kernel's BTF. Each is there twice, for kernels that read typed
// addresses directly and for older ones (include/read.h). Regenerate with `go
// generate ./bpf`; it needs clang-19 and libbpf's headers, users need neither.
package bpf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cilium/ebpf"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -type slot -type config -type container -type id_key -type proc -type path_key -type path_rule -type net_key -type net_rules -type file_key -type counter -type head -type exec_event -type fork_event -type exit_event -type open_event -type net_event -type flow_event -type container_event -type privilege_event -type leaf_key -type repeats -type stranger Process process.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Network network.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Sysctl sysctl.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Syscall syscall.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Trace trace.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types LSM lsm.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Right right.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types RightByHelper right.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types File file.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types FileByHelper file.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types ProcessByHelper process.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types NetworkByHelper network.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types SysctlByHelper sysctl.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types SyscallByHelper syscall.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types LSMByHelper lsm.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Host host.bpf.c

// Object is one compiled file.
type Object struct {
	Name string
	code []byte
}

// Spec parses the object.
func (o Object) Spec() (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.code))
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", o.Name, err)
	}
	return spec, nil
}

// Cast is the function of the kernel (6.2) that the objects need which read
// directly.
const Cast = "bpf_rdonly_cast"

// Tracepoints are those of the kernel (6.14 at the latest) that the object trace
// hangs on, as its BTF names them.
func Tracepoints() []string { return []string{"btf_trace_sk_data_ready", "btf_trace_cap_capable"} }

// Host is what decides which objects a host loads.
type Host struct {
	// Direct: its kernel has Cast.
	Direct bool
	// Tier1: BPF LSM acts.
	Tier1 bool
	// Traces: its kernel has all Tracepoints.
	Traces bool
	// Registers: its kernel shows an LSM program the registers of the system
	// call (bpf_task_pt_regs, 5.15).
	Registers bool
	// Paths: its kernel asks LSM about changes of files by their paths
	// (CONFIG_SECURITY_PATH).
	Paths bool
}

// Objects lists what a host loads. Every shared map is in one of the first two.
func (h Host) Objects() []Object {
	process, network, sysctl := Object{"process", _ProcessBytes}, Object{"network", _NetworkBytes}, Object{"sysctl", _SysctlBytes}
	syscall, lsm, right, file := Object{"syscall", _SyscallBytes}, Object{"lsm", _LSMBytes}, Object{"right", _RightBytes}, Object{"file", _FileBytes}
	if !h.Direct {
		process, network, sysctl = Object{"process", _ProcessByHelperBytes}, Object{"network", _NetworkByHelperBytes}, Object{"sysctl", _SysctlByHelperBytes}
		syscall, lsm, right = Object{"syscall", _SyscallByHelperBytes}, Object{"lsm", _LSMByHelperBytes}, Object{"right", _RightByHelperBytes}
		file = Object{"file", _FileByHelperBytes}
	}
	list := []Object{process, network, sysctl}
	switch {
	case h.Tier1:
		list = append(list, lsm)
		if h.Registers {
			list = append(list, right)
		}
		if h.Paths {
			list = append(list, file)
		}
		return list
	case h.Quiet():
		return append(list, Object{"trace", _TraceBytes})
	}
	return append(list, syscall)
}

// Quiet: no program is asked about openings of files, and none watches every
// system call for them.
func (h Host) Quiet() bool { return !h.Tier1 && h.Traces && h.Direct }

// Version names objects by their content: two builds with one version behave
// alike in the kernel.
func Version(objects []Object) string {
	h := sha256.New()
	for _, o := range objects {
		h.Write(o.code)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
