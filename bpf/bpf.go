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

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -type slot -type config -type container -type id_key -type proc -type path_key -type path_rule -type net_key -type net_rules -type file_key -type counter -type head -type exec_event -type fork_event -type exit_event -type open_event -type net_event -type flow_event -type container_event Process process.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types Network network.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types File file.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -go-package bpf -no-global-types LSM lsm.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types ProcessByHelper process.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types NetworkByHelper network.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror -DREAD_BY_HELPER" -go-package bpf -no-global-types FileByHelper file.bpf.c
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

// Objects lists what a host loads: direct where its kernel has Cast, tier1
// where BPF LSM acts. Every shared map is in one of the first three.
func Objects(direct, tier1 bool) []Object {
	list := []Object{{"process", _ProcessBytes}, {"network", _NetworkBytes}, {"file", _FileBytes}, {"lsm", _LSMBytes}}
	if !direct {
		list = []Object{{"process", _ProcessByHelperBytes}, {"network", _NetworkByHelperBytes}, {"file", _FileByHelperBytes}, {"lsm", _LSMByHelperBytes}}
	}
	if !tier1 {
		return list[:3]
	}
	return list
}

// Version names objects by their content: two builds with one version behave
// alike in the kernel.
func Version(objects []Object) string {
	h := sha256.New()
	for _, o := range objects {
		h.Write(o.code)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
