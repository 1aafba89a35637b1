package enforce

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"golang.org/x/sys/unix"
)

// watchSlot is where watched files stand among the path rules.
const watchSlot = 0

// readWatched takes up what an earlier agent watched.
func (k *Kernel) readWatched() error {
	for _, key := range keysWhere(k.objects.Paths, func(p bpf.PathKey) bool { return p.Slot == watchSlot }) {
		k.watched[key] = struct{}{}
	}
	return nil
}

// Watch names the files whose opening inside any container is an event: whole
// paths, and patterns that end in /* or /**. It replaces the list before.
func (k *Kernel) Watch(patterns ...string) error {
	rules := policy.Exec{Restrict: true}
	for _, p := range patterns {
		rules.Allow = append(rules.Allow, policy.PathRule{Pattern: p, Source: "watched file"})
	}
	entries, _, err := compilePaths(rules)
	if err != nil {
		return err
	}
	k.objects.SetWatched(patterns)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.setLeaves(patterns); err != nil { // what is not asked about is not looked up
		return err
	}
	old := k.watched
	k.watched = map[bpf.PathKey]struct{}{}
	for _, e := range entries {
		key := e.key(watchSlot)
		if err := k.objects.Paths.Put(key, e.rule); err != nil {
			return fmt.Errorf("watch %s: %w", e.path, err)
		}
		k.watched[key] = struct{}{}
		delete(old, key)
	}
	var gone []bpf.PathKey
	for key := range old {
		gone = append(gone, key)
	}
	return remove(k.objects.Paths, gone)
}

// setLeaves names the last parts of watched paths. Names that nobody watches any
// more may stay: they only cost a look at the whole path.
func (k *Kernel) setLeaves(patterns []string) error {
	leaves := map[bpf.LeafKey]uint32{}
	for _, p := range patterns {
		base, deep := strings.CutSuffix(p, "/**")
		folder, one := strings.CutSuffix(base, "/*")
		switch {
		case deep:
			leaves[bpf.LeafKey{}] |= bpf.LeafDeep
		case one:
			leaves[leaf(folder)] |= bpf.LeafFolder
		default:
			leaves[leaf(p)] |= bpf.LeafFile
		}
	}
	for key, kinds := range leaves {
		if err := k.objects.Leaves.Put(key, kinds); err != nil {
			return fmt.Errorf("watched names: %w", err)
		}
	}
	return nil
}

// leaf is a path's last part as the programs compare it: with its NUL, in eight
// bytes.
func leaf(p string) (key bpf.LeafKey) {
	copy(key.Name[:len(key.Name)-1], path.Base(p))
	return key
}

// SetStorage names the folders in which engines keep the files of containers:
// the host's kernel is not to run a program there. It replaces the list before.
func (k *Kernel) SetStorage(folders []string) error {
	var rules policy.Exec
	for _, f := range folders {
		rules.Deny = append(rules.Deny, policy.PathRule{Pattern: f + "/**", Source: "storage of an engine"})
	}
	entries, _, err := compilePaths(rules)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := map[bpf.PathKey]bool{}
	for _, e := range entries {
		key := e.key(bpf.StorageSlot)
		wanted[key] = true
		if err := k.objects.Paths.Put(key, e.rule); err != nil {
			return fmt.Errorf("storage %s: %w", e.path, err)
		}
	}
	return remove(k.objects.Paths, keysWhere(k.objects.Paths, func(p bpf.PathKey) bool { return p.Slot == bpf.StorageSlot && !wanted[p] }))
}

// SetEngineSockets names the sockets of container engines, which no container
// may use, and finds the engines' init programs, which every one may. It replaces the list before. Call it again when an engine restarts:
// sockets are known by their inode. Sockets that do not exist are named in the
// error; the others are set all the same.
func (k *Kernel) SetEngineSockets(paths []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	wanted := map[bpf.FileKey]bool{}
	for _, p := range paths {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			errs = append(errs, fmt.Errorf("engine socket %s: %w", p, err))
			continue
		}
		key := bpf.FileKey{Ino: st.Ino, Dev: sensor.KernelDevice(st.Dev)}
		wanted[key] = true
		if err := k.objects.EngineSockets.Put(key, uint32(1)); err != nil {
			errs = append(errs, fmt.Errorf("engine socket %s: %w", p, err))
		}
	}
	gone := keysWhere(k.objects.EngineSockets, func(f bpf.FileKey) bool { return !wanted[f] })
	return errors.Join(append(errs, remove(k.objects.EngineSockets, gone), k.readInits())...)
}

// inits are where engines have the init program that they mount into a
// container on demand (`docker run --init`, `podman run --init`): Docker looks
// in PATH and in its folders of libexec, Podman has one place.
var inits = [...]string{
	"/usr/bin/docker-init", "/usr/local/bin/docker-init", "/usr/sbin/docker-init", "/usr/local/sbin/docker-init",
	"/usr/libexec/docker/docker-init", "/usr/local/libexec/docker/docker-init",
	"/usr/lib/docker/docker-init", "/usr/local/lib/docker/docker-init",
	"/usr/libexec/podman/catatonit", "/usr/bin/catatonit", "/usr/bin/tini",
}

// readInits lets every allow-list pass the engines' init programs, known by
// their files on this host: all they do is to start other programs. It
// replaces the list before.
func (k *Kernel) readInits() error {
	var errs []error
	wanted := map[bpf.FileKey]bool{}
	for _, p := range inits {
		var st unix.Stat_t
		if unix.Stat(p, &st) != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 {
			continue // not on this host, or not its administrator's alone
		}
		key := bpf.FileKey{Ino: st.Ino, Dev: sensor.KernelDevice(st.Dev)}
		wanted[key] = true
		if err := k.objects.InitPrograms.Put(key, uint32(1)); err != nil {
			errs = append(errs, fmt.Errorf("init program %s: %w", p, err))
		}
	}
	gone := keysWhere(k.objects.InitPrograms, func(f bpf.FileKey) bool { return !wanted[f] })
	return errors.Join(append(errs, remove(k.objects.InitPrograms, gone))...)
}
