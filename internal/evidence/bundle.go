package evidence

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Schema is the version of a bundle's manifest.
const Schema = 1

// Manifest is manifest.json, the first file of a bundle.
type Manifest struct {
	Schema    int              `json:"schema"`
	Story     string           `json:"story"` // its key
	Host      string           `json:"host"`
	Container *event.Container `json:"container,omitempty"`
	// From and To bound the events in events.jsonl.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Entries are all other files of the bundle.
	Entries []Entry `json:"entries"`
	// Dropped says where the files below files/ were.
	Dropped []File `json:"dropped,omitempty"`
	// Gaps say what could not be had, and why.
	Gaps []string `json:"gaps,omitempty"`
}

// Entry is one file of a bundle.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Bundle writes the evidence of a story as a tar: manifest.json, then what it lists,
// in its order. ErrNone is wrapped when nothing is kept. What is kept meanwhile
// waits for nobody who reads slowly, and is not in the bundle.
func (s *Store) Bundle(ctx context.Context, key string, w io.Writer) error {
	name := folder(key)
	s.mu.Lock()
	st, err := s.read(name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if !st.Done {
		if err := s.cut(ctx, name); err != nil {
			return err
		}
	}
	m, files, err := s.open(name)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return writeTar(w, m, files)
}

// open opens the files of a story and says what they are. They are replaced and
// removed, never changed.
func (s *Store) open(name string) (m Manifest, files []*os.File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.read(name)
	if err != nil {
		return m, nil, err
	}
	if time.Now().Before(st.Last.Add(After)) {
		st.gap("the %s after the last act were not over when this was made", After)
	}
	m = Manifest{Schema: Schema, Story: st.Key, Host: st.Host, Container: st.Container, From: st.First.Add(-Before), To: st.Last.Add(After), Entries: []Entry{}, Dropped: st.Files, Gaps: st.Gaps}
	root := s.path(name)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "story.json" || strings.HasPrefix(d.Name(), "new-") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		files = append(files, f)
		h := sha256.New()
		e := Entry{Name: filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))}
		if e.Size, err = io.Copy(h, f); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		e.SHA256 = hex.EncodeToString(h.Sum(nil))
		m.Entries = append(m.Entries, e)
		return err
	})
	return m, files, err
}

func writeTar(w io.Writer, m Manifest, files []*os.File) error {
	out := tar.NewWriter(w)
	raw, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	header := func(name string, size int64) *tar.Header {
		return &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: m.To.Truncate(time.Second), Typeflag: tar.TypeReg}
	}
	if err := out.WriteHeader(header("manifest.json", int64(len(raw)))); err != nil {
		return err
	}
	if _, err := out.Write(raw); err != nil {
		return err
	}
	for i, e := range m.Entries {
		if err := out.WriteHeader(header(e.Name, e.Size)); err != nil {
			return err
		}
		if _, err := io.CopyN(out, files[i], e.Size); err != nil {
			return err
		}
	}
	return out.Close()
}

// maxManifest bounds the manifest of a bundle that is read.
const maxManifest = 16 << 20

// Verify reads a bundle and holds every file against the manifest.
func Verify(r io.Reader) (Manifest, error) {
	var m Manifest
	in := tar.NewReader(r)
	first, err := in.Next()
	if err != nil || first.Name != "manifest.json" || first.Size > maxManifest {
		return m, errors.Join(errors.New("no bundle of evidence: its first file is no manifest"), err)
	}
	if err := json.NewDecoder(io.LimitReader(in, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if m.Schema != Schema {
		return m, fmt.Errorf("manifest of schema %d: this version reads %d", m.Schema, Schema)
	}
	for _, e := range m.Entries {
		h, err := in.Next()
		if err != nil {
			return m, fmt.Errorf("%s is missing: %w", e.Name, err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, in)
		if err != nil {
			return m, fmt.Errorf("%s: %w", e.Name, err)
		}
		if h.Name != e.Name || n != e.Size || hex.EncodeToString(sum.Sum(nil)) != e.SHA256 {
			return m, fmt.Errorf("%s is not what the manifest says", e.Name)
		}
	}
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		return m, errors.New("the bundle holds more than its manifest says")
	}
	return m, nil
}
