package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// acquire takes the folder for this process. The kernel lets go of it when the
// process ends, however it ends.
func acquire(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, _ := os.ReadFile(path)
		f.Close()
		return nil, fmt.Errorf("spool %s: in use by pid %s: stop that agent or give this one another data folder",
			dir, strings.TrimSpace(string(owner)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	// A full disk keeps the pid from being written, not the lock from holding.
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		f.Close()
		return nil, fmt.Errorf("spool %s: lock: %w", dir, err)
	}
	return f, nil
}
