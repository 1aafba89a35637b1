package intel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// The names in a bundle's folder.
const (
	dbName        = "bundle.db"
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	buildPrefix   = ".build-"
)

// maxSmall bounds manifests, signatures and keys.
const maxSmall = 4 << 20

// folder is <data>/intel.
type folder string

func folderOf(data string) folder { return folder(filepath.Join(data, "intel")) }

func (f folder) current() string { return filepath.Join(string(f), "current") }
func (f folder) bundles() string { return filepath.Join(string(f), "bundles") }

// lock takes the builder's lock, or returns ErrBusy. The kernel lets it go when
// the process ends, however that happens.
func (f folder) lock() (unlock func(), err error) {
	if err := os.MkdirAll(f.bundles(), 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(string(f), "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close() // nothing was written to it
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (lock %s); wait for it to end and try again", ErrBusy, path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = file.Close() }, nil // closing lets the lock go
}

// scratch removes what killed builders left and makes a folder for this one.
func (f folder) scratch() (string, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), buildPrefix) {
			if err := os.RemoveAll(filepath.Join(string(f), e.Name())); err != nil {
				return "", fmt.Errorf("an unfinished build: %w", err)
			}
		}
	}
	return os.MkdirTemp(string(f), buildPrefix)
}

// publish makes a whole folder within scratch the current bundle, and removes
// all but it and the one before. The scratch folder's random name keeps two
// bundles apart whatever the clock does.
func (f folder) publish(scratch, ready string, built time.Time) error {
	previous, _ := os.Readlink(f.current()) // absent on the first build
	name := bundleName(scratch, built)
	if err := syncFolder(ready); err != nil {
		return err
	}
	if err := os.Chmod(ready, 0o755); err != nil {
		return err
	}
	if err := os.Rename(ready, filepath.Join(f.bundles(), name)); err != nil {
		return err
	}
	if err := durable.Sync(f.bundles()); err != nil {
		return err
	}
	link := filepath.Join(string(f), buildPrefix+"current")
	if err := os.Symlink(filepath.Join("bundles", name), link); err != nil {
		return err
	}
	if err := os.Rename(link, f.current()); err != nil {
		return err
	}
	if err := durable.Sync(string(f)); err != nil {
		return err
	}
	return f.removeAllBut(name, filepath.Base(previous))
}

// bundleName is the name of a published bundle's folder.
func bundleName(scratch string, built time.Time) string {
	return built.UTC().Format("20060102T150405Z") + strings.Replace(filepath.Base(scratch), buildPrefix, "-", 1)
}

func (f folder) removeAllBut(keep ...string) error {
	entries, err := os.ReadDir(f.bundles())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == keep[0] || e.Name() == keep[1] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(f.bundles(), e.Name())); err != nil {
			return fmt.Errorf("an old bundle: %w", err)
		}
	}
	return nil
}

// syncFolder makes the files of a folder, and their names, durable.
func syncFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := durable.Sync(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return durable.Sync(dir)
}

// readSmall reads a file of at most maxSmall bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxSmall)
	}
	return data, err
}
