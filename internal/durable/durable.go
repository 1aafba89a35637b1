// Package durable writes files that outlive a crash: whoever reads one finds
// the bytes from before or the new ones, never a part, and what was written
// stays written, its name too (fsync(2), rename(2)).
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path in one step. The folder must exist. On an
// error the file is what it was and nothing is left beside it; only a process
// that is killed meanwhile leaves a file .new-*.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return Replace(path, data, func(f *os.File) error { return f.Chmod(mode) })
}

// Replace is WriteFile with a say in how the new file looks before it takes the
// place: it is the caller's alone (mode 0600) until prepare changed it.
func Replace(path string, data []byte, prepare func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, prepare(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return Sync(filepath.Dir(path))
}

// Sync makes a file, or the names in a folder, durable.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
