package agent

import (
	"fmt"
	"os"
	"syscall"
)

// ownFolder refuses a data folder in which somebody else could replace the
// policy, its key or the image reports.
func ownFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("agent folder: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("agent folder %s: others than its owner can write in it (mode %v), and could replace policy there: chmod go-w it", path, info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("agent folder %s: it belongs to user %d, who could replace policy there: chown it to root, or name another", path, st.Uid)
	}
	return nil
}
