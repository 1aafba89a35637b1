package story

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// maxFile is the size, in bytes, from which the file is written anew with what is
// open.
const maxFile = 4 << 20

// file holds stories as lines of JSON, the last line of each counting. Lines are
// not forced to the disk: they outlive a killed agent, not a host that loses its
// power, after which other stories begin.
type file struct {
	path string
	f    *os.File
	size int64
}

func openFile(path string, take func(*state)) (*file, error) {
	out := &file{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("stories: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		var s state
		if json.Unmarshal(lines.Bytes(), &s) != nil || s.Story.Key == "" { // torn, or of another version
			continue
		}
		if s.Done == nil {
			s.Done = map[int]bool{}
		}
		if s.Alike == nil {
			s.Alike = map[string]uint64{}
		}
		take(&s)
	}
	return out, nil
}

// add writes how a story stands now.
func (f *file) add(s *state, open map[string]*state) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("stories: %w", err)
	}
	if f.f == nil || f.size > maxFile {
		return f.anew(open)
	}
	n, err := f.f.Write(append(line, '\n'))
	f.size += int64(n)
	if err != nil {
		return fmt.Errorf("stories: %w: after the agent's next start other stories begin", err)
	}
	return nil
}

// anew replaces the file by one line for each open story.
func (f *file) anew(open map[string]*state) error {
	var all []byte
	for _, s := range open {
		line, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("stories: %w", err)
		}
		all = append(append(all, line...), '\n')
	}
	err := errors.Join(f.close(), os.MkdirAll(filepath.Dir(f.path), 0o750))
	if err == nil {
		err = durable.WriteFile(f.path, all, 0o640)
	}
	if err == nil {
		f.f, err = os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err != nil {
		return fmt.Errorf("stories: %w", err)
	}
	f.size = int64(len(all))
	if f.size > maxFile/2 { // many are open: not at every step
		f.size = maxFile / 2
	}
	return nil
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
