// Package evidence keeps what a person needs to understand a story after its
// container is gone: the processes as they were with the hashes of their programs,
// their open files and sockets, the file that was dropped, and the events of the
// seconds before and after. It lies in a folder of the agent's, one folder a story,
// and is handed out as a tar with a manifest.
//
// What comes out of a container is read as data, through descriptors that cannot
// leave the container's root, and in bounded size; what could not be had is said in
// the manifest.
package evidence

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/journal"
)

// The bounds of evidence.
const (
	DefaultBytes = 1 << 30  // of all stories; the oldest go
	maxStory     = 64 << 20 // bytes of files of one story
	maxFile      = 32 << 20 // bytes of one file
	maxEvents    = 32 << 20 // bytes of events of one story
	maxHashed    = 64 << 20 // bytes of a program that is hashed
	maxSteps     = 16       // incidents of a story that processes are looked at for
	maxStories   = 60       // begun in a minute
	maxGaps      = 64

	// Before and After are the seconds around a story whose events are kept.
	Before = 30 * time.Second
	After  = 30 * time.Second
)

// ErrNone is wrapped when nothing is kept of a story.
var ErrNone = errors.New("no evidence is kept")

// Store keeps evidence. It is safe for concurrent use.
type Store struct {
	dir     string
	journal string // the folder of events
	bytes   int64

	mu      sync.Mutex // of all below, and of the stories' folders
	begun   []time.Time
	pending map[string]time.Time // stories whose events are still to be cut, by folder, and when
	wake    chan struct{}
	hashes  map[fileID]string
}

// story is story.json of a folder.
type story struct {
	Key       string           `json:"key"`
	Host      string           `json:"host"`
	Container *event.Container `json:"container,omitempty"`
	First     time.Time        `json:"first"`
	Last      time.Time        `json:"last"`
	Steps     int              `json:"steps"` // that processes were looked at for
	Bytes     int64            `json:"bytes"` // of files
	Done      bool             `json:"done"`  // the events were cut after the last seconds
	Files     []File           `json:"files,omitempty"`
	// Written are files that were opened for writing; they are kept when the last
	// seconds are over, for only then is there what was written.
	Written []string `json:"written,omitempty"`
	Gaps    []string `json:"gaps,omitempty"`
}

// File is a file out of a container that is kept.
type File struct {
	Name   string `json:"name"` // in the bundle
	Path   string `json:"path"` // where it was
	Why    string `json:"why"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Open takes up a folder. Stories of an earlier agent whose events were not cut yet
// are cut by Run.
func Open(dir, journalDir string, bytes int64) (*Store, error) {
	if bytes == 0 {
		bytes = DefaultBytes
	}
	s := &Store{dir: dir, journal: journalDir, bytes: bytes, pending: map[string]time.Time{}, wake: make(chan struct{}, 1), hashes: map[fileID]string{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	folders, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	for _, f := range folders {
		if !f.IsDir() { // a killed agent was cutting it
			if err := os.Remove(s.path(f.Name())); err != nil {
				return nil, fmt.Errorf("evidence: %w", err)
			}
			continue
		}
		if st, err := s.read(f.Name()); err == nil && !st.Done {
			s.pending[f.Name()] = st.Last.Add(After)
		}
	}
	return s, nil
}

// folder is the name of a story's folder; keys are of any form.
func folder(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// key is the story that an incident belongs to.
func key(inc event.Incident) string {
	if inc.Story != nil {
		return inc.Story.Key
	}
	return inc.Key
}

// Wants says whether evidence is kept of an incident: what a container did, of
// medium severity or worse.
func Wants(inc event.Incident) bool {
	return inc.Container != nil && inc.Container.ID != "" && inc.Event.Process != nil && inc.Severity.Rank() >= event.SeverityMedium.Rank()
}

// Look keeps what can be seen now: the processes of the incident's container and the
// file that was executed. To be called as early as possible.
func (s *Store) Look(ctx context.Context, inc event.Incident) error {
	if !Wants(inc) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := folder(key(inc))
	st, err := s.begin(name, inc)
	if err != nil || st == nil {
		return err
	}
	if st.Steps++; st.Steps > maxSteps {
		st.gap("the processes were looked at for the first %d incidents only", maxSteps)
		return s.write(name, st)
	}
	seen := look(ctx, inc, s.hashes)
	for _, g := range seen.Gaps {
		st.gap("step %d: %s", st.Steps, g)
	}
	seen.Gaps = nil
	if f := inc.Event.File; f != nil && f.Write && len(st.Written) < maxSteps && !slices.Contains(st.Written, f.Path) {
		st.Written = append(st.Written, f.Path)
	}
	s.dropped(name, st, inc, seen.Processes)
	raw, err := json.MarshalIndent(seen, "", " ")
	if err == nil {
		err = durable.WriteFile(s.path(name, fmt.Sprintf("processes-%02d.json", st.Steps)), raw, 0o600)
	}
	return errors.Join(err, s.write(name, st))
}

// Note keeps an incident as it was finished.
func (s *Store) Note(inc event.Incident) error {
	if !Wants(inc) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := folder(key(inc))
	st, err := s.read(name)
	if err != nil {
		return nil // it was one too many, or the oldest
	}
	step := 0
	if inc.Story != nil {
		step = inc.Story.Step
	}
	raw, err := json.MarshalIndent(inc, "", " ")
	if err == nil {
		err = durable.WriteFile(s.path(name, fmt.Sprintf("incident-%03d.json", step)), raw, 0o600)
	}
	if inc.Time.After(st.Last) {
		st.Last = inc.Time
	}
	st.Container, st.Done = inc.Container, false
	s.later(name, st.Last.Add(After))
	return errors.Join(err, s.write(name, st))
}

// begin returns the story's record, made when there is none; nil when there are too
// many.
func (s *Store) begin(name string, inc event.Incident) (*story, error) {
	if st, err := s.read(name); err == nil {
		return st, nil
	}
	now := time.Now()
	s.begun = slices.DeleteFunc(s.begun, func(t time.Time) bool { return now.Sub(t) > time.Minute })
	if len(s.begun) >= maxStories {
		return nil, fmt.Errorf("evidence: more than %d stories began within a minute: only the first ones are kept", maxStories)
	}
	s.begun = append(s.begun, now)
	if err := s.prune(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.path(name, "files"), 0o700); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	st := &story{Key: key(inc), Host: inc.Host, Container: inc.Container, First: inc.Time, Last: inc.Time}
	s.later(name, st.Last.Add(After))
	return st, nil
}

func (s *Store) later(name string, at time.Time) {
	s.pending[name] = at
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (st *story) gap(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(st.Gaps) < maxGaps && !slices.Contains(st.Gaps, text) {
		st.Gaps = append(st.Gaps, text)
	}
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) read(name string) (*story, error) {
	raw, err := os.ReadFile(s.path(name, "story.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	var st story
	return &st, json.Unmarshal(raw, &st)
}

func (s *Store) write(name string, st *story) error {
	raw, err := json.MarshalIndent(st, "", " ")
	if err == nil {
		err = durable.WriteFile(s.path(name, "story.json"), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

// Run cuts the events of each story once its last seconds are over, until ctx ends.
// problem is told what is wrong, nil when nothing is.
func (s *Store) Run(ctx context.Context, problem func(error)) {
	for {
		due, wait := s.due()
		for _, name := range due {
			problem(s.cut(ctx, name))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-time.After(wait):
		}
	}
}

// due are the stories whose last seconds are over, and how long none other's are.
func (s *Store) due() (names []string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	for name, at := range s.pending {
		if left := time.Until(at); left > 0 {
			wait = min(wait, left)
			continue
		}
		delete(s.pending, name)
		names = append(names, name)
	}
	return names, wait
}

// cut writes the events of the story's container around it. Nobody waits meanwhile.
func (s *Store) cut(ctx context.Context, name string) error {
	s.mu.Lock()
	st, err := s.read(name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	made := *st // its gaps are those of the cut
	made.Gaps = nil
	tmp, err := s.cutInto(ctx, &made)
	if err != nil {
		return fmt.Errorf("evidence: events: %w", err)
	}
	defer os.Remove(tmp) // it was renamed
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.read(name)
	if err != nil {
		return err // it was the oldest
	}
	for _, g := range made.Gaps {
		now.gap("%s", g)
	}
	s.written(name, now)
	now.Done = now.Last.Equal(st.Last) && time.Now().After(st.Last.Add(After))
	return errors.Join(os.Rename(tmp, s.path(name, eventsFile)), s.write(name, now))
}

const eventsFile = "events.jsonl"

func (s *Store) cutInto(ctx context.Context, st *story) (path string, err error) {
	from, to := st.First.Add(-Before), st.Last.Add(After)
	f, err := os.CreateTemp(s.dir, "events-")
	if err != nil {
		return "", err
	}
	out := bufio.NewWriter(f)
	size := 0
	seen, err := journal.Read(ctx, s.journal, from, func(ev event.Event) error {
		mine := ev.Container != nil && st.Container != nil && ev.Container.ID == st.Container.ID
		lost := ev.Notice != nil && ev.Notice.Code == journal.NoticeLost
		if ev.Time.After(to) || !mine && !lost {
			return nil
		}
		raw, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		if size += len(raw) + 1; size > maxEvents {
			st.gap("of the events only the first %d MiB are kept", maxEvents>>20)
			return journal.ErrStop
		}
		_, err = out.Write(append(raw, '\n'))
		return err
	})
	if seen.Missing > 0 {
		st.gap("%d events of this host came too fast and are missing", seen.Missing)
	}
	if seen.Oldest.After(from) {
		st.gap("the events before %s were not there", seen.Oldest.UTC().Format(time.RFC3339))
	}
	if err = errors.Join(err, out.Flush(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// prune removes the oldest stories until another one has room.
func (s *Store) prune() error {
	folders, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	type kept struct {
		name string
		at   time.Time
		size int64
	}
	var all []kept
	total := int64(0)
	for _, f := range folders {
		if !f.IsDir() {
			continue // that is being cut
		}
		k := kept{name: f.Name()}
		_ = filepath.WalkDir(s.path(f.Name()), func(_ string, d fs.DirEntry, err error) error { // what is gone has no size
			if err != nil {
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				k.size += info.Size()
				if info.ModTime().After(k.at) {
					k.at = info.ModTime()
				}
			}
			return nil
		})
		total += k.size
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b kept) int { return a.at.Compare(b.at) })
	for _, k := range all {
		if total+maxStory <= s.bytes || len(all) == 1 {
			return nil
		}
		if err := os.RemoveAll(s.path(k.name)); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
		delete(s.pending, k.name)
		total -= k.size
	}
	return nil
}
