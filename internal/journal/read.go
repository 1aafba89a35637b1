package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Seen is what a reading came over.
type Seen struct {
	Events  uint64    `json:"events"`          // that were read, whether asked for or not
	Damaged uint64    `json:"damaged"`         // lines that could not be read
	Missing uint64    `json:"missing"`         // events that the journal says it dropped, in the time asked for
	Oldest  time.Time `json:"oldest,omitzero"` // of the oldest event that the journal still has
}

// ErrStop, returned by the function that reads, ends a reading without an error.
var ErrStop = errors.New("enough")

// followEvery is how often a reader that has all looks for more.
const followEvery = 100 * time.Millisecond

// clockSlack is how much a segment's own time is mistrusted.
const clockSlack = 2 * time.Minute

// Read gives the events from since on (all, when that is zero), in the order in which
// they were written, to do; an error of do ends it. It may run while somebody writes.
func Read(ctx context.Context, dir string, since time.Time, do func(event.Event) error) (Seen, error) {
	r := &reader{dir: dir, since: since, do: do}
	err := r.all(ctx)
	if errors.Is(err, ErrStop) {
		err = nil
	}
	return r.seen, err
}

// Follow reads as Read does, and goes on with what is written until ctx ends or do
// says ErrStop.
func Follow(ctx context.Context, dir string, since time.Time, do func(event.Event) error) (Seen, error) {
	r := &reader{dir: dir, since: since, do: do, tail: true}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		err := r.all(ctx)
		if errors.Is(err, ErrStop) || ctx.Err() != nil {
			return r.seen, nil
		}
		if err != nil {
			return r.seen, err
		}
		select {
		case <-ctx.Done():
			return r.seen, nil
		case <-tick.C:
		}
	}
}

// reader is a place in a ring.
type reader struct {
	dir   string
	since time.Time
	do    func(event.Event) error
	tail  bool // more may be written at the end: a torn line may be finished
	seen  Seen

	number uint64 // the segment that was read last
	offset int64  // how far
}

// all reads what there is beyond the place.
func (r *reader) all(ctx context.Context) error {
	list, err := list(r.dir)
	if err != nil {
		return err
	}
	for n, s := range list {
		if s.number < r.number || s.number == r.number && s.size <= r.offset {
			continue
		}
		last := n == len(list)-1
		if s.number != r.number {
			r.number, r.offset = s.number, 0
		}
		if !last && !r.since.IsZero() && s.last.Before(r.since.Add(-clockSlack)) {
			if err := r.oldest(s.path); err != nil {
				return err
			}
			r.offset = s.size
			continue
		}
		if err := r.segment(ctx, s.path, last && r.tail); err != nil {
			return err
		}
	}
	return nil
}

// oldest takes note of the first event of a segment that is passed over.
func (r *reader) oldest(path string) error {
	if !r.seen.Oldest.IsZero() {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, _ := io.ReadFull(f, head) // shorter is as good
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	if ev, ok := parse(line); ok {
		r.seen.Oldest = ev.Time
	}
	return nil
}

func (r *reader) segment(ctx context.Context, path string, mayGrow bool) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was the oldest, and is gone
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	window := make([]byte, 0, 256<<10)
	at := r.offset // of the window
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(window) == cap(window) { // a line that no journal wrote
			r.seen.Damaged++
			at += int64(len(window))
			window = window[:0]
		}
		n, err := f.ReadAt(window[len(window):cap(window)], at+int64(len(window)))
		window = window[:len(window)+n]
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("journal: %w", err)
		}
		used, doErr := r.lines(window)
		at += int64(used)
		r.offset = at
		window = append(window[:0], window[used:]...)
		if doErr != nil {
			return doErr
		}
		switch {
		case err == nil && used > 0:
		case err == nil && cap(window) < 2*maxLine:
			window = append(make([]byte, 0, 2*cap(window)), window...)
		case err != nil:
			if len(window) > 0 && !mayGrow {
				r.seen.Damaged++
				r.offset += int64(len(window))
			}
			return nil
		}
	}
}

// lines takes the whole lines of a window, and says how many bytes they are.
func (r *reader) lines(window []byte) (used int, err error) {
	for {
		n := bytes.IndexByte(window[used:], '\n')
		if n < 0 {
			return used, nil
		}
		line := window[used : used+n]
		used += n + 1
		ev, ok := parse(line)
		if !ok {
			r.seen.Damaged++
			continue
		}
		if err := r.take(ev); err != nil {
			return used, err
		}
	}
}

func (r *reader) take(ev event.Event) error {
	r.seen.Events++
	if r.seen.Oldest.IsZero() {
		r.seen.Oldest = ev.Time
	}
	if ev.Time.Before(r.since) {
		return nil
	}
	if ev.Notice != nil && ev.Notice.Code == NoticeLost {
		r.seen.Missing += ev.Notice.Count
	}
	return r.do(ev)
}

// parse reads a line.
func parse(line []byte) (ev event.Event, ok bool) {
	if len(line) < 10 || line[8] != ' ' {
		return ev, false
	}
	want, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(want) != sum(line[9:]) {
		return ev, false
	}
	return ev, json.Unmarshal(line[9:], &ev) == nil
}
