// Package bpf holds the kernel's side of Breakwater: the eBPF programs in C,
// the objects compiled from them, and the Go types of what they exchange with
// user space, all generated from the C and committed.
//
// One object serves every little-endian machine: the programs read kernel
// structures only through relocations that the loader resolves from the
// running kernel's BTF. Regenerate with `go generate ./bpf`; it needs clang-19
// and libbpf's headers, users need neither.
package bpf

import (
	"crypto/sha256"
	"encoding/hex"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -type slot -type config -type container -type id_key -type proc -type path_key -type path_rule -type net_key -type net_rules -type file_key -type counter -type head -type exec_event -type fork_event -type exit_event -type open_event -type net_event -type flow_event -type container_event Process process.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Network network.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types File file.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types LSM lsm.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Host host.bpf.c

// Version names the compiled programs by their content: two builds with one
// version behave alike in the kernel.
func Version(tier1 bool) string {
	h := sha256.New()
	for _, object := range [][]byte{_ProcessBytes, _NetworkBytes, _FileBytes} {
		h.Write(object)
	}
	if tier1 {
		h.Write(_LSMBytes)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
