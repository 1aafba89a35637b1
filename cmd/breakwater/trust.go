package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/breakwater-sec/breakwater/internal/signature"
)

// trustFile is where the data folder says whose signatures count.
const trustFile = "trust.yaml"

// trustFlag names the file that says whose signatures count.
type trustFlag struct{ file string }

func (t *trustFlag) add(f *pflag.FlagSet) {
	f.StringVar(&t.file, "trust", "", "file that says whose signatures on images count (default: trust.yaml in the data folder, if it is there)")
}

// read is nil when no file is named and none is in the data folder.
func (t *trustFlag) read(env *environment) (*signature.Trust, error) {
	file := t.file
	if file == "" {
		dir, err := env.dataDir()
		if err != nil {
			return nil, nil //nolint:nilerr // no data folder, no trust
		}
		file = filepath.Join(dir, trustFile)
	}
	name, data, err := readInput(env, file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && t.file == "":
		return nil, nil
	case err != nil:
		return nil, err
	}
	return signature.ParseTrust(name, data)
}
