package main

import (
	"fmt"
	"io"
	"os"

	"github.com/breakwater-sec/breakwater/internal/vex"
)

// statements reads the files of --vex; notes says which of their statements
// cannot be used.
func (s *scanCommand) statements() (set *vex.Set, notes []string, err error) {
	set = &vex.Set{}
	for _, path := range s.vex {
		data, err := readVEX(path)
		if err != nil {
			return nil, nil, fmt.Errorf("VEX document %w", err)
		}
		more, err := set.Add(path, data)
		if err != nil {
			return nil, nil, err
		}
		notes = append(notes, more...)
	}
	return set, notes, nil
}

func readVEX(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, vex.MaxDocument+1))
}
