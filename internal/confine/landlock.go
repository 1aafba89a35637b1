package confine

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What each version of Landlock can forbid (linux/landlock.h); a bit that the
// running kernel does not know makes it refuse the whole rule set.
const (
	landlockFS     = 1<<13 - 1 // version 1: from execute to make_sym
	landlockRefer  = 1 << 13   // version 2
	landlockTrunc  = 1 << 14   // version 3
	landlockNet    = 1<<2 - 1  // version 4: bind and connect TCP
	landlockIoctl  = 1 << 15   // version 5
	landlockScope  = 1<<2 - 1  // version 6: abstract sockets, signals
	landlockTSYNC  = 1 << 3    // version 8: LANDLOCK_RESTRICT_SELF_TSYNC
	versionRequest = 1 << 0    // LANDLOCK_CREATE_RULESET_VERSION
)

// forbidPaths allows no path, port, signal or abstract socket at all: a rule
// set that handles everything and holds no rule.
//
// Landlock belongs to a thread. Kernels before version 8 need the call on each
// thread, which Go offers to programs without cgo only; libpsx, the usual way
// with cgo, looks its threads up in /proc and so fails in a pid namespace.
func forbidPaths() error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, versionRequest)
	if errno != 0 {
		return errno
	}
	attr := everything(int(version))
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("version %d: %w", version, errno)
	}
	defer func() { _ = unix.Close(int(fd)) }()
	if version >= 8 {
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, landlockTSYNC, 0)
	} else {
		if _, _, errno = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno == 0 {
			_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
		}
	}
	if errno == syscall.ENOTSUP {
		return errors.New("this program was built with cgo")
	}
	if errno != 0 {
		return fmt.Errorf("version %d: %w", version, errno)
	}
	return nil
}

func everything(version int) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: landlockFS}
	if version >= 2 {
		attr.Handled_access_fs |= landlockRefer
	}
	if version >= 3 {
		attr.Handled_access_fs |= landlockTrunc
	}
	if version >= 4 {
		attr.Handled_access_net = landlockNet
	}
	if version >= 5 {
		attr.Handled_access_fs |= landlockIoctl
	}
	if version >= 6 {
		attr.Scoped = landlockScope
	}
	return attr
}
