package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/durable"
)

const segmentSuffix = ".seg"

// segment is one file of frames. Its name is the first sequence number in it.
type segment struct {
	base uint64
	size int64
	good map[api.RecordKind]uint64 // readable records
	last uint64                    // highest number seen at Open, base-1 when none
	torn bool                      // bytes after the last whole frame
}

func (s *Spool) path(base uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", base, segmentSuffix))
}

// bases lists the segments on disk, ascending. Other files are left alone.
func (s *Spool) bases() ([]uint64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if n, err := strconv.ParseUint(name, 10, 64); ok && err == nil && len(name) == 20 && n > 0 {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// readSegment reads a whole segment and counts what is in it.
func readSegment(path string, base uint64) (*segment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSegmentBytes+headerSize+maxPayload {
		return nil, fmt.Errorf("segment %s has %d bytes, more than a spool ever writes: move it away", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return scan(b, base), nil
}

// scan counts what is in a segment. Numbers must rise from base on; a frame that
// breaks this is damaged.
func scan(b []byte, base uint64) *segment {
	seg := newSegment(base)
	off, end := 0, 0
	for off < len(b) {
		r, n, err := decode(b[off:])
		switch {
		case err == nil && r.Sequence > seg.last:
			seg.good[r.Kind]++
			seg.last = r.Sequence
			end = off + n
			off = end
		case err == nil || errors.Is(err, errBody):
			off += n
		default:
			skip, ok := resync(b[off:])
			if !ok {
				skip = len(b) - off
			}
			off += skip
		}
	}
	seg.size = int64(end)
	seg.torn = end < len(b)
	return seg
}

// recover brings the spool to the state that the disk holds.
func (s *Spool) recover() error {
	st, known := loadState(s.dir)
	bases, err := s.bases()
	if err != nil {
		return err
	}
	for len(bases) > 0 && bases[0] < st.FreedBelow {
		if err := os.Remove(s.path(bases[0])); err != nil {
			return err
		}
		bases = bases[1:]
	}
	for _, base := range bases {
		seg, err := readSegment(s.path(base), base)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, seg)
		s.bytes += seg.size
	}
	s.epoch, s.commit, s.totals = st.Epoch, st.Committed, st.Totals
	if expect := max(st.FreedBelow, st.Committed+1); known && len(bases) > 0 && bases[0] > expect {
		s.totals.Damaged += bases[0] - expect // segments are missing
	}
	doubtful := !known
	if len(s.segments) == 0 {
		doubtful = true
		s.next = max(st.FreedBelow, st.Committed+1, 1)
	} else {
		s.next = max(s.last().last+1, st.Committed+1)
		if s.last().torn {
			s.totals.Torn++
			doubtful = true
		}
	}
	if doubtful {
		s.epoch = newEpoch()
	}
	s.synced = s.next - 1
	if len(s.segments) > 0 && s.commit < s.segments[0].base-1 {
		s.commit = s.segments[0].base - 1
	}
	return s.openActive(doubtful)
}

// openActive opens the last segment for writing, cut to its whole frames, and
// makes the repaired state durable before anything is read from it.
func (s *Spool) openActive(repaired bool) error {
	flags := os.O_RDWR
	if len(s.segments) == 0 {
		s.segments = []*segment{newSegment(s.next)}
		flags |= os.O_CREATE
	}
	last := s.last()
	f, err := os.OpenFile(s.path(last.base), flags, 0o600)
	if err != nil {
		return err
	}
	s.active = f
	// What a crash left in the page cache is read again only once it is safe.
	if err := errors.Join(f.Truncate(last.size), f.Sync(), durable.Sync(s.dir)); err != nil {
		f.Close()
		return err
	}
	if !repaired {
		return nil
	}
	if err := s.saveState(); err != nil {
		f.Close()
		return err
	}
	return nil
}

func newSegment(base uint64) *segment {
	return &segment{base: base, last: base - 1, good: map[api.RecordKind]uint64{}}
}

// rotate starts a new segment. Callers hold mu.
func (s *Spool) rotate() error {
	f, err := os.OpenFile(s.path(s.next), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.retired = append(s.retired, s.active)
	s.active = f
	s.segments = append(s.segments, newSegment(s.next))
	return nil
}

// lost is how many numbers from the segment's base to end (exclusive) have no
// readable record.
func (g *segment) lost(end uint64) uint64 {
	have := uint64(0)
	for _, n := range g.good {
		have += n
	}
	if end < g.base+have {
		return 0
	}
	return end - g.base - have
}
