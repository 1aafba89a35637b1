package sensor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// attach puts every program where it acts, but for those whose link an earlier
// agent of the same version left pinned.
func (o *Objects) attach(ctx context.Context, specs []*ebpf.CollectionSpec, types *btf.Cache) error {
	root, release, err := unifiedRoot()
	if err != nil {
		return err
	}
	defer release()
	for _, spec := range specs {
		if err := ctx.Err(); err != nil {
			return err
		}
		missing := o.missing(spec)
		if len(missing) == 0 {
			continue
		}
		coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
			Maps:  ebpf.MapOptions{PinPath: o.maps},
			Cache: types,
		})
		if err != nil {
			return verifierTail(err)
		}
		for _, name := range missing {
			if err := o.attachOne(name, spec.Programs[name], coll.Programs[name], root); err != nil {
				coll.Close()
				return fmt.Errorf("attach %s: %w", name, err)
			}
		}
		coll.Close()
	}
	return nil
}

// missing lists the programs of an object that have no pinned link yet.
func (o *Objects) missing(spec *ebpf.CollectionSpec) []string {
	var list []string
	for _, name := range sortedKeys(spec.Programs) {
		if _, err := os.Stat(filepath.Join(o.links, name)); err != nil {
			list = append(list, name)
		}
	}
	return list
}

func (o *Objects) attachOne(name string, spec *ebpf.ProgramSpec, prog *ebpf.Program, cgroup string) error {
	l, err := attachTo(spec, prog, cgroup)
	if err != nil {
		return err
	}
	err = l.Pin(filepath.Join(o.links, name))
	if errors.Is(err, ebpf.ErrNotSupported) { // perf events before 5.15
		o.Unpinned = append(o.Unpinned, name)
		o.closer = append(o.closer, l)
		return nil
	}
	return errors.Join(err, l.Close())
}

// byReturn turns programs of LSM into such that stand in for the return value of
// the function that asks LSM (BPF_MODIFY_RETURN, 5.7): their arguments are the same.
func byReturn(specs []*ebpf.CollectionSpec) error {
	functions := map[string]string{
		"bprm_check_security": "security_bprm_check", "file_open": "security_file_open", "mmap_file": "security_mmap_file",
		"unix_stream_connect": "security_unix_stream_connect",
		"path_unlink":         "security_path_unlink", "path_rmdir": "security_path_rmdir", "path_mkdir": "security_path_mkdir", "path_mknod": "security_path_mknod",
		"path_symlink": "security_path_symlink", "path_link": "security_path_link", "path_rename": "security_path_rename",
		"path_truncate": "security_path_truncate", "path_chmod": "security_path_chmod", "path_chown": "security_path_chown",
		"socket_create": "security_socket_create", "capable": "security_capable", "bpf": "security_bpf",
	}
	for _, spec := range specs {
		for name, p := range spec.Programs {
			if p.Type != ebpf.LSM {
				continue
			}
			function := functions[p.AttachTo]
			if function == "" {
				return fmt.Errorf("program %s: no function of the kernel is known that asks %s", name, p.AttachTo)
			}
			p.Type, p.AttachType, p.AttachTo = ebpf.Tracing, ebpf.AttachModifyReturn, function
		}
	}
	return nil
}

// attachTo attaches by the section that the C source names.
func attachTo(spec *ebpf.ProgramSpec, prog *ebpf.Program, cgroup string) (link.Link, error) {
	switch spec.Type {
	case ebpf.RawTracepoint:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: prog})
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: prog})
	case ebpf.LSM:
		return link.AttachLSM(link.LSMOptions{Program: prog})
	default:
		return link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: spec.AttachType, Program: prog})
	}
}

// unifiedRoot is a path to the root of the v2 hierarchy, mounted for the
// moment where the host has it nowhere.
func unifiedRoot() (path string, release func(), err error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return "", nil, err
	}
	if at := mounts[unifiedName]; at != "" {
		return at, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "breakwater-cgroup")
	if err != nil {
		return "", nil, err
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount the unified cgroup hierarchy: %w", err), os.Remove(dir))
	}
	return dir, func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	}, nil
}
