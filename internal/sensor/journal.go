package sensor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxJournal bounds the file, in bytes: what finds no room is in memory alone.
const maxJournal = 4 << 20

// journal keeps on disk what the kernel asked about, since it will not say it
// again, from before the answer until somebody dealt with it. It is for an agent
// that is killed, not for a machine that loses power: nothing is synced, for
// somebody waits. Safe for concurrent use; nil keeps nothing.
type journal struct {
	mu   sync.Mutex
	file *os.File
	size int64
	open int  // events that nobody dealt with yet
	torn bool // the last line has no end
}

// entry is a line of the file.
type entry struct {
	Event    *event.Event `json:"event,omitempty"`
	Answered string       `json:"answered,omitempty"` // the key of an event: it was refused
}

// openJournal also returns what an earlier one was left with, for whoever is to
// call dealt for each. With the path "" there is none.
func openJournal(path string) (*journal, []event.Event, error) {
	if path == "" {
		return nil, nil, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("journal of openings: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(file, 2*maxJournal))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("journal of openings: %w", err), file.Close())
	}
	left := readJournal(raw)
	j := &journal{file: file, size: int64(len(raw)), open: len(left), torn: len(raw) > 0 && raw[len(raw)-1] != '\n'}
	if len(left) == 0 {
		j.empty()
	}
	return j, left, nil
}

// readJournal passes over what is no entry: the last one may be cut off. What
// was to be refused and perhaps was not is told as what it may have been.
func readJournal(raw []byte) []event.Event {
	var left []event.Event
	answered := map[string]bool{}
	for line := range bytes.Lines(raw) {
		var e entry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if e.Event != nil {
			left = append(left, *e.Event)
		}
		if e.Answered != "" {
			answered[e.Answered] = true
		}
	}
	for _, ev := range left {
		if d := ev.Decision; d != nil && d.Outcome == event.Prevented && !answered[ev.Key] {
			d.Outcome = event.Detected
			d.Why += " The agent was killed over it, and the kernel may have let it pass."
		}
	}
	return left
}

// keep notes an event; each is to be dealt with.
func (j *journal) keep(ev event.Event) {
	j.write(entry{Event: &ev}, 1)
}

// answered notes that what an event is about was refused.
func (j *journal) answered(ev event.Event) {
	j.write(entry{Answered: ev.Key}, 0)
}

func (j *journal) write(e entry, more int) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open += more
	line, err := json.Marshal(e)
	if err != nil || j.size+int64(len(line)) > maxJournal {
		return
	}
	line = append(line, '\n')
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, _ := j.file.Write(line) // on a full disk it is in memory alone
	j.size += int64(n)
	if n > 0 {
		j.torn = n < len(line)
	}
}

// dealt says that somebody dealt with one of the events.
func (j *journal) dealt() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open--; j.open == 0 {
		j.empty()
	}
}

// empty drops everything. A file that cannot be is told again, which the keys make
// good.
func (j *journal) empty() {
	if j.size > 0 && j.file.Truncate(0) == nil {
		j.size, j.torn = 0, false
	}
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return j.file.Close()
}
