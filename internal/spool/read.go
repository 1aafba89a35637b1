package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/breakwater-sec/breakwater/api"
)

const readWindow = 256 << 10

// place remembers where in a segment the record after a sequence number starts.
type place struct {
	after  uint64
	base   uint64
	offset int64
}

// Read returns records after the given sequence number, in order: at least one,
// at most maxRecords, and no more than maxBytes of bodies unless the first alone
// is larger. It waits until there is one on stable storage, ctx ends (its
// error), or the spool closes (ErrClosed). Damaged records are passed over and
// show as gaps in the numbers. Reading frees nothing; see Commit.
func (s *Spool) Read(ctx context.Context, after uint64, maxRecords, maxBytes int) ([]api.Record, error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	for {
		s.mu.Lock()
		synced, written, changed := s.synced, s.next-1, s.changed
		segments, err := s.from(after), s.usable()
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if synced > after {
			records, err := s.collect(segments, after, synced, maxRecords, maxBytes)
			if err != nil {
				return nil, fmt.Errorf("spool %s: %w", s.dir, err)
			}
			if len(records) > 0 {
				return records, nil
			}
		}
		if written > synced {
			s.demandSync()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// from lists the bases of the segments that may hold records after a number.
// Callers hold mu.
func (s *Spool) from(after uint64) []uint64 {
	var list []uint64
	for i, g := range s.segments {
		if i+1 < len(s.segments) && s.segments[i+1].base <= after+1 {
			continue
		}
		list = append(list, g.base)
	}
	return list
}

// collect reads on from after over the given segments. A segment that was freed
// meanwhile was committed, so its absence loses nothing.
func (s *Spool) collect(bases []uint64, after, upTo uint64, maxRecords, maxBytes int) ([]api.Record, error) {
	c := &collection{after: after, upTo: upTo, records: maxRecords, bytes: maxBytes}
	for _, base := range bases {
		offset := int64(0)
		if s.place.base == base && s.place.after == after {
			offset = s.place.offset
		}
		offset, err := c.file(s.path(base), offset)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err == nil && len(c.out) > 0 {
			s.place = place{after: c.out[len(c.out)-1].Sequence, base: base, offset: offset}
		}
		if c.full {
			break
		}
	}
	return c.out, nil
}

type collection struct {
	after, upTo    uint64
	records, bytes int
	out            []api.Record
	full           bool
}

func (c *collection) file(path string, offset int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return c.segment(f, offset)
}

// segment adds a segment's records from offset on and returns where the last one
// that was taken ends: what follows may be a frame that is just being written.
func (c *collection) segment(f io.ReaderAt, offset int64) (int64, error) {
	w := &window{f: f, start: offset}
	if err := w.fill(readWindow); err != nil {
		return 0, err
	}
	end := offset
	for len(w.b) > 0 {
		r, n, err := decode(w.b)
		switch {
		case errors.Is(err, errShort) && !w.eof:
			if err := w.fill(max(n, readWindow)); err != nil {
				return 0, err
			}
		case err == nil && r.Sequence > c.upTo:
			c.full = true
			return end, nil
		case err == nil:
			if !c.take(r) {
				return end, nil
			}
			w.skip(n)
			end = w.start
		case errors.Is(err, errBody):
			w.skip(n)
		default:
			w.resync()
		}
	}
	return end, nil
}

// take adds a record unless the collection is full.
func (c *collection) take(r api.Record) bool {
	if r.Sequence <= c.after {
		return true
	}
	if len(c.out) > 0 && (len(c.out) >= c.records || len(r.Body) > c.bytes) {
		c.full = true
		return false
	}
	c.out = append(c.out, r)
	c.after = r.Sequence
	c.bytes -= len(r.Body)
	return true
}

// window is the part of a file that is in memory.
type window struct {
	f     io.ReaderAt
	start int64 // file offset of b
	b     []byte
	eof   bool
}

// fill grows the window to at least n bytes, or to the end of the file.
func (w *window) fill(n int) error {
	n = max(n, len(w.b)+1)
	b := make([]byte, n)
	have := copy(b, w.b)
	m, err := w.f.ReadAt(b[have:], w.start+int64(have))
	w.b = b[:have+m]
	if errors.Is(err, io.EOF) {
		w.eof = true
		return nil
	}
	return err
}

func (w *window) skip(n int) {
	w.b = w.b[n:]
	w.start += int64(n)
	if len(w.b) < headerSize && !w.eof {
		_ = w.fill(readWindow) // an error leaves the window short; the next fill reports it
	}
}

// resync moves on to the next right header. Without one in the window it keeps
// only what may be the beginning of one.
func (w *window) resync() {
	if n, ok := resync(w.b); ok {
		w.skip(n)
		return
	}
	if w.eof {
		w.skip(len(w.b))
		return
	}
	w.skip(max(1, len(w.b)-headerSize+1))
	_ = w.fill(readWindow)
}

// Commit says that everything up to seq is in the server's store: segments that
// hold nothing else are freed. Numbers that are lower than before, or that were
// never read, are ignored.
func (s *Spool) Commit(seq uint64) error {
	s.mu.Lock()
	if s.closed || seq <= s.commit || seq > s.synced {
		s.mu.Unlock()
		return nil
	}
	s.commit, s.dirty = seq, true
	if last := s.last(); seq == s.next-1 && last.size >= s.segmentSize/4 {
		if err := s.rotate(); err != nil && s.failed == nil {
			s.mu.Unlock() // a full disk: the segment is freed by a later commit
			return nil
		}
	}
	freed := s.freeable()
	s.mu.Unlock()
	if len(freed) == 0 {
		return nil
	}
	s.demandSync()
	return s.remove(freed)
}

// freeable takes the segments off the list that hold only committed records.
// Callers hold mu.
func (s *Spool) freeable() []uint64 {
	var freed []uint64
	for len(s.segments) > 1 && s.segments[1].base <= s.commit+1 {
		g := s.segments[0]
		s.totals.free(g, s.segments[1].base)
		s.bytes -= g.size
		freed = append(freed, g.base)
		s.segments = s.segments[1:]
	}
	return freed
}

// remove deletes freed segments, after the state knows that they are gone. On a
// full disk it deletes first: freeing is what makes room.
func (s *Spool) remove(bases []uint64) error {
	stateErr := s.saveState()
	var err error
	for _, base := range bases {
		if e := os.Remove(s.path(base)); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if stateErr != nil {
		err = errors.Join(err, s.saveState())
	}
	return err
}
