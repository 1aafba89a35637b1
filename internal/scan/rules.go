package scan

import (
	"cmp"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/malware"
)

// openRules loads the rules in the child.
func openRules(l Look, given tools) (any, error) {
	if given.compiled == nil {
		return (*malware.YARA)(nil), nil // only asked what it wants
	}
	return malware.OpenYARA(given.compiled, l.RuleTime)
}

// rulesFile is a file in memory that the child reads the rules from, and that
// nobody can change.
func rulesFile(compiled []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("rules", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "rules")
	if _, err = f.Write(compiled); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("handing the YARA rules over: %w", err)
	}
	return f, nil
}

// readRules reads them in the child.
func readRules(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "rules")
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("the YARA rules: %w", err)
	}
	compiled := make([]byte, min(info.Size(), malware.MaxCompiled))
	if _, err := f.ReadAt(compiled, 0); err != nil {
		return nil, fmt.Errorf("the YARA rules: %w", err)
	}
	return compiled, nil
}

// larger says how many files were too large for the rules.
func (o *Options) larger(n int) string {
	files := "files"
	if n == 1 {
		files = "file"
	}
	return fmt.Sprintf("YARA rules were not evaluated on %d %s of more than %d bytes", n, files, cmp.Or(o.Content, DefaultContent))
}
