// Package journal is the agent's memory of events: a ring of segment files with a
// bound, in a folder of the agent's. What an agent sees is written there whether or
// not it is an incident; when the ring is full its oldest segment goes.
//
// Adding never waits: what comes faster than it can be written is dropped, counted
// by kind, and told in the journal at the place where it is missing. Lines are not
// forced to the disk: they outlive a killed agent but for what it had not written
// yet (a moment's events), and a host without power but for what its kernel had not.
//
// A segment is lines of a CRC-32 (Castagnoli, eight hex digits), a blank, and an
// event in its JSON form. Whoever reads passes over lines that are damaged or torn,
// and counts them.
package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of a journal.
const (
	DefaultBytes = 256 << 20
	MinBytes     = 1 << 20

	segments   = 16   // that a full ring has
	maxWaiting = 8192 // events that may wait to be written
	maxLine    = 1 << 20
)

// The codes of notices that a journal writes itself.
const (
	NoticeOpened = "journal-opened" // an agent began to write here
	NoticeLost   = "journal-lost"   // events that found no room are missing before it
)

// Account counts the events of one kind since the journal was opened: those that
// were given to it, and those of them that it could not write.
type Account = event.Account

// Journal is open for writing. Its methods are safe for concurrent use.
type Journal struct {
	dir      string
	maxBytes int64
	waiting  chan event.Event
	done     chan struct{}

	mu      sync.Mutex
	closed  bool
	offered map[event.Kind]uint64
	dropped map[event.Kind]uint64
	untold  map[event.Kind]uint64 // dropped, and no line says so yet
	wrong   error

	// of the writing goroutine
	file   *os.File
	out    *bufio.Writer
	size   int64
	whole  int64 // bytes of the file that a flush brought there
	number uint64
	held   map[event.Kind]uint64 // in out, and perhaps not in the file
	said   map[event.Kind]uint64 // dropped, and the line that says so is in out only
}

// Open begins to write in a folder, which is made when it is not there. bytes
// bounds what lies in it; 0 is DefaultBytes. One process at a time.
func Open(dir string, bytes int64) (*Journal, error) {
	if bytes == 0 {
		bytes = DefaultBytes
	}
	j := &Journal{dir: dir, maxBytes: max(bytes, MinBytes), waiting: make(chan event.Event, maxWaiting), done: make(chan struct{}),
		offered: map[event.Kind]uint64{}, dropped: map[event.Kind]uint64{}, untold: map[event.Kind]uint64{}, held: map[event.Kind]uint64{}, said: map[event.Kind]uint64{}}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	all, err := list(dir)
	if err != nil {
		return nil, err
	}
	if len(all) > 0 {
		if err := j.goOn(all[len(all)-1]); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	go j.write()
	j.Add(notice(NoticeOpened, "an agent began to write events; what the one before it had not written yet is missing before this", 0))
	return j, nil
}

// goOn writes on in the newest segment where it has room, so that many starts do not
// make many segments. A line that was torn there is ended.
func (j *Journal) goOn(last segment) error {
	j.number = last.number
	if last.size >= j.maxBytes/segments {
		return nil
	}
	f, err := os.OpenFile(last.path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	j.file, j.out, j.size = f, bufio.NewWriterSize(f, 64<<10), last.size
	j.whole = last.size
	end := make([]byte, 1)
	if last.size == 0 {
		return nil
	}
	if _, err := f.ReadAt(end, last.size-1); err != nil {
		return errors.Join(err, f.Close())
	}
	if end[0] != '\n' {
		j.size++
		return j.out.WriteByte('\n')
	}
	return nil
}

func notice(code, message string, count uint64) event.Event {
	at := time.Now().UTC()
	return event.Event{Key: fmt.Sprintf("%s-%d", code, at.UnixNano()), Kind: event.KindAgent, Time: at, Notice: &event.Notice{Code: code, Message: message, Count: count}}
}

// Add takes an event, or drops and counts it when too many wait.
func (j *Journal) Add(ev event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.offered[ev.Kind]++
	if !j.closed {
		select {
		case j.waiting <- ev:
			return
		default:
		}
	}
	j.dropped[ev.Kind]++
	j.untold[ev.Kind]++
}

// Accounts counts what was offered and dropped, by kind.
func (j *Journal) Accounts() []Account {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Account
	for _, kind := range slices.Sorted(maps.Keys(j.offered)) {
		out = append(out, Account{Kind: kind, Emitted: j.offered[kind], Dropped: j.dropped[kind]})
	}
	return out
}

// Err says why events cannot be written now, nil when they are.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wrong
}

// Close writes what waits and ends.
func (j *Journal) Close() error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		close(j.waiting)
	}
	j.mu.Unlock()
	<-j.done
	return j.Err()
}

// write is the goroutine that writes.
func (j *Journal) write() {
	defer close(j.done)
	for ev := range j.waiting {
		j.line(ev)
		for len(j.waiting) > 0 {
			j.line(<-j.waiting)
		}
		j.tellLost()
		j.flush()
	}
	j.tellLost()
	j.flush()
	if j.file != nil {
		j.note(j.file.Close())
	}
}

// tellLost writes what is missing at this place.
func (j *Journal) tellLost() {
	j.mu.Lock()
	lost := j.untold
	j.untold = map[event.Kind]uint64{}
	j.mu.Unlock()
	var words []string
	total := uint64(0)
	for _, kind := range slices.Sorted(maps.Keys(lost)) {
		total += lost[kind]
		words = append(words, fmt.Sprintf("%d %s", lost[kind], kind))
	}
	if total == 0 {
		return
	}
	line := notice(NoticeLost, "events that came too fast, or found no room on the disk, are missing before this: "+strings.Join(words, ", "), total)
	if !j.line(line) {
		j.mu.Lock()
		defer j.mu.Unlock()
		add(j.untold, lost)
		return
	}
	add(j.said, lost)
}

func add(to, more map[event.Kind]uint64) {
	for kind, n := range more {
		to[kind] += n
	}
}

// line writes one event, and says whether it could.
func (j *Journal) line(ev event.Event) bool {
	raw, err := json.Marshal(ev)
	if err == nil && len(raw) > maxLine {
		err = fmt.Errorf("an event of %d bytes", len(raw))
	}
	if err == nil {
		err = j.room(int64(len(raw)) + 10)
	}
	if err == nil {
		_, err = fmt.Fprintf(j.out, "%08x %s\n", sum(raw), raw)
	}
	if err != nil {
		j.failed(ev.Kind, err)
		return false
	}
	j.size += int64(len(raw)) + 10
	j.held[ev.Kind]++
	return true
}

func sum(raw []byte) uint32 { return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)) }

// room opens another segment where the one in use is full, or there is none.
func (j *Journal) room(n int64) error {
	if j.file != nil && j.size+n <= j.maxBytes/segments {
		return nil
	}
	if j.flush(); j.file != nil {
		err := j.file.Close()
		j.file = nil
		j.note(err)
	}
	if err := j.prune(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(j.dir, name(j.number+1)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	j.number++
	j.file, j.out, j.size, j.whole = f, bufio.NewWriterSize(f, 64<<10), 0, 0
	return nil
}

// prune removes the oldest segments until there is room for one more.
func (j *Journal) prune() error {
	all, err := list(j.dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, s := range all {
		total += s.size
	}
	for _, s := range all {
		if total+j.maxBytes/segments <= j.maxBytes {
			return nil
		}
		if err := os.Remove(s.path); err != nil {
			return err
		}
		total -= s.size
	}
	return nil
}

// flush brings what is held into the file. What a full disk does not take is
// dropped; what is in the segment stays, and another one is tried.
func (j *Journal) flush() {
	if j.file == nil {
		return
	}
	err := j.out.Flush()
	if err != nil {
		j.mu.Lock()
		add(j.dropped, j.held)
		delete(j.held, event.KindAgent) // mostly the journal's own: told again
		add(j.untold, j.held)
		add(j.untold, j.said)
		j.mu.Unlock()
		err = errors.Join(err, j.undo(), j.file.Close())
		j.file = nil
	}
	j.whole = j.size
	clear(j.held)
	clear(j.said)
	j.note(err)
}

// undo takes out of the file what a failed flush brought there, since it counts as
// dropped. Nothing stays of a segment without a line: a disk that stays full would
// collect them.
func (j *Journal) undo() error {
	if j.whole == 0 {
		return os.Remove(j.file.Name())
	}
	return j.file.Truncate(j.whole)
}

// failed counts an event that could not be written.
func (j *Journal) failed(kind event.Kind, err error) {
	j.note(err)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dropped[kind]++
	if kind != event.KindAgent {
		j.untold[kind]++
	}
}

func (j *Journal) note(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("events are not kept: %w: enforcement and incidents go on", err)
	}
	j.wrong = err
}

const prefix, suffix = "events-", ".log"

func name(number uint64) string { return fmt.Sprintf("%s%020d%s", prefix, number, suffix) }

// segment is one file of a ring.
type segment struct {
	path   string
	number uint64
	size   int64
	last   time.Time // when it was last written to
}

// list gives the segments of a folder, the oldest first.
func list(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var all []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), prefix), suffix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // it was the oldest
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		all = append(all, segment{filepath.Join(dir, e.Name()), number, info.Size(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b segment) int { return int(int64(a.number) - int64(b.number)) })
	return all, nil
}
