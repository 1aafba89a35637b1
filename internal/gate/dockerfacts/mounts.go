package dockerfacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// mounts are all mounts of a container: those asked for, those that volumes
// with mount options hide, those taken from other containers, and those that
// the engine says are there. Each host path appears under each of its names,
// so that a policy may name any of them.
func (r reader) mounts(h *hostConfig, inspected []inspectedMount) ([]policy.Mount, error) {
	var out []policy.Mount
	for _, bind := range h.Binds {
		m, err := r.bind(bind, h.VolumeDriver)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	for _, spec := range h.Mounts {
		m, err := r.mount(spec)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	for target := range h.Tmpfs {
		out = append(out, policy.Mount{Target: target, Type: "tmpfs"})
	}
	for _, from := range h.VolumesFrom {
		m, err := r.volumesFrom(from)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	for _, i := range inspected {
		m, err := r.inspected(i)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	slices.SortFunc(out, func(a, b policy.Mount) int {
		return strings.Compare(a.Target+"\x00"+a.Source+"\x00"+a.Type, b.Target+"\x00"+b.Source+"\x00"+b.Type)
	})
	return slices.Compact(out), nil
}

// bind reads "source:target[:mode]" or "target". A source that is no absolute
// path is a volume's name.
func (r reader) bind(spec, driver string) ([]policy.Mount, error) {
	parts := strings.Split(spec, ":")
	if len(parts) > 3 {
		return nil, fmt.Errorf("bind %q has more than three parts", spec)
	}
	m := policy.Mount{Type: "volume", Target: parts[0]}
	if len(parts) == 1 {
		return []policy.Mount{m}, nil
	}
	m.Target = parts[1]
	if len(parts) == 3 {
		m.ReadOnly = slices.Contains(strings.Split(parts[2], ","), "ro")
	}
	if strings.HasPrefix(parts[0], "/") {
		m.Type = "bind"
		return r.named(m, parts[0]), nil
	}
	return r.volume(m, parts[0])
}

func (r reader) mount(spec mountSpec) ([]policy.Mount, error) {
	m := policy.Mount{Type: spec.Type, Target: spec.Target, ReadOnly: spec.ReadOnly}
	switch spec.Type {
	case "bind":
		return r.named(m, spec.Source), nil
	case "image":
		m.Image = spec.Source
	case "volume":
		out, err := r.volume(m, spec.Source)
		if o := spec.VolumeOptions; err == nil && o != nil && o.DriverConfig != nil {
			out = append(out, r.options(m, o.DriverConfig.Options)...)
		}
		return out, err
	}
	return []policy.Mount{m}, nil // tmpfs, cluster: no host path
}

// volume is a volume by name, with the host paths that its driver's options
// bring in when it exists already.
func (r reader) volume(m policy.Mount, name string) ([]policy.Mount, error) {
	out := []policy.Mount{m}
	if name == "" || r.look == nil {
		return out, nil
	}
	raw, err := r.look.Volume(r.ctx, name)
	if errors.Is(err, ErrNotFound) {
		return out, nil // the engine will make an empty one
	}
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", name, err)
	}
	var v volume
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("engine's inspection of volume %q: %w", name, err)
	}
	return append(out, r.options(m, v.Options)...), nil
}

// options finds everything of the host that a volume driver's mount options
// bring in: a bind's or block device's "device", the folders of an overlay
// ("lowerdir=/etc"), and the kernel's own file systems. What cannot be told,
// such as a path relative to the engine's working folder, counts as the whole
// host.
func (r reader) options(m policy.Mount, options map[string]string) []policy.Mount {
	m.Type = "bind"
	fs, device := options["type"], options["device"]
	words := strings.FieldsFunc(options["o"], func(c rune) bool { return c == ',' || c == '=' || c == ':' })
	binds := slices.Contains(words, "bind") || slices.Contains(words, "rbind")
	var out []policy.Mount
	whole := false
	if path.IsAbs(device) {
		out = append(out, r.named(m, device)...)
		// A host's file system is on one of its devices, and a device's node may
		// lie anywhere: a container can make one in a volume.
		whole = !binds && !hostless(fs) && kernelFolder(fs) == "" && fs != "overlay"
	} else if device != "" {
		whole = binds || !hostless(fs) && kernelFolder(fs) == "" && fs != "overlay"
	}
	for i, word := range words {
		switch {
		case path.IsAbs(word):
			out = append(out, r.named(m, word)...)
		case i > 0 && strings.HasSuffix(words[i-1], "dir"), strings.Contains(word, "/"):
			whole = whole || !hostless(fs)
		}
	}
	if folder := kernelFolder(fs); folder != "" && !binds {
		out = append(out, r.named(m, folder)...)
	}
	if whole {
		m.Source = "/"
		out = append(out, m)
	}
	return out
}

// hostless are file systems that show nothing of the host.
func hostless(fs string) bool {
	switch fs {
	case "tmpfs", "ramfs", "nfs", "nfs4", "cifs", "smb3", "ceph":
		return true
	}
	return false
}

// kernelFolder is where a host has a file system of the kernel's; a second
// mount of it shows the same.
func kernelFolder(fs string) string {
	switch fs {
	case "proc":
		return "/proc"
	case "sysfs":
		return "/sys"
	case "cgroup", "cgroup2":
		return "/sys/fs/cgroup"
	case "bpf":
		return "/sys/fs/bpf"
	case "debugfs":
		return "/sys/kernel/debug"
	case "tracefs":
		return "/sys/kernel/tracing"
	case "securityfs":
		return "/sys/kernel/security"
	case "configfs":
		return "/sys/kernel/config"
	case "efivarfs":
		return "/sys/firmware/efi/efivars"
	case "binfmt_misc":
		return "/proc/sys/fs/binfmt_misc"
	case "devtmpfs":
		return "/dev"
	case "devpts":
		return "/dev/pts"
	case "mqueue":
		return "/dev/mqueue"
	}
	return ""
}

func (r reader) volumesFrom(spec string) ([]policy.Mount, error) {
	id, mode, _ := strings.Cut(spec, ":")
	if r.look == nil {
		return nil, nil // the inspection lists what came of it
	}
	raw, err := r.look.Container(r.ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // the engine refuses it by itself
	}
	if err != nil {
		return nil, fmt.Errorf("volumes from container %q: %w", id, err)
	}
	var c inspection
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("engine's inspection of container %q: %w", id, err)
	}
	var out []policy.Mount
	for _, i := range c.Mounts {
		m, err := r.inspected(i)
		if err != nil {
			return nil, err
		}
		for k := range m {
			m[k].ReadOnly = m[k].ReadOnly || mode == "ro"
		}
		out = append(out, m...)
	}
	return out, nil
}

func (r reader) inspected(i inspectedMount) ([]policy.Mount, error) {
	m := policy.Mount{Type: i.Type, Target: i.Destination, ReadOnly: !i.RW}
	switch i.Type {
	case "bind", "":
		m.Type = "bind"
		return r.named(m, i.Source), nil
	case "volume":
		return r.volume(m, i.Name)
	}
	return []policy.Mount{m}, nil
}

// named gives the mount once for each name of its source.
func (r reader) named(m policy.Mount, source string) []policy.Mount {
	var out []policy.Mount
	for _, name := range r.host.Paths.Names(source) {
		m.Source = name
		out = append(out, m)
	}
	return out
}

// Paths knows the host's file names: it resolves symbolic links, and knows the
// links at the top of the tree by which people call well-known places (/bin for
// /usr/bin). The policy language itself knows that /var/run is /run.
type Paths struct {
	links []link
}

type link struct{ name, target string }

// HostPaths reads the links at the top of this host's tree.
func HostPaths() *Paths {
	p := &Paths{}
	names, _ := filepath.Glob("/*") // the pattern is a constant: no error
	for _, name := range names {
		target, err := filepath.EvalSymlinks(name)
		if err == nil && target != name && target != "/" {
			p.links = append(p.links, link{name, target})
		}
	}
	return p
}

// Names are a host path's names: cleaned, with links resolved as far as the
// path exists, and under the links at the top of the tree.
func (p *Paths) Names(name string) []string {
	clean := path.Clean(name)
	if p == nil || !path.IsAbs(clean) {
		return []string{clean}
	}
	resolved := resolve(clean)
	names := []string{resolved}
	if clean != resolved && !strings.HasPrefix(clean, "/var/run/") {
		names = append(names, clean)
	}
	for _, l := range p.links {
		if rest, ok := strings.CutPrefix(resolved, l.target); ok && (rest == "" || rest[0] == '/') {
			if alias := l.name + rest; !slices.Contains(names, alias) {
				names = append(names, alias)
			}
		}
	}
	return names
}

// resolve follows links in the part of the path that exists.
func resolve(name string) string {
	missing := ""
	for at := name; ; at = path.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return path.Join(real, missing)
		}
		if at == "/" {
			return name
		}
		missing = path.Join(path.Base(at), missing)
	}
}
