package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv/stage"
)

// outcome is what is expected of an attack.
type outcome string

const (
	stopped outcome = "stopped"  // it does no harm, and an incident says so
	told    outcome = "told"     // it happens, and an incident says so
	unseen  outcome = "not seen" // a limit of this tier: it happens, and nothing says so
)

// impossible is the villain's exit status where the kernel has not got what an
// attack needs: kernels are built without modules.
const impossible = 77

// attack is one thing that an intruder tries.
type attack struct {
	id, title string
	box       string
	flags     []string // of docker exec
	run       []string // the command; @ stands for the mark's file in the box
	// harmed is the witness of attacks that are to be stopped; nil: the mark exists.
	harmed func(*suite) bool
	// tells are detections, or controls of policies, by which it may be told; about
	// must stand in the incident's event.
	tells []string
	about string
	tier1 outcome
	tier2 outcome
	short bool // it is part of the short form
}

func (a attack) expected(tier int) outcome {
	if tier == 1 {
		return a.tier1
	}
	return a.tier2
}

// row is one line of the table.
type row struct {
	attack
	want     outcome
	incident *stage.Incident
	harmed   bool
	problem  string
}

// try makes one attack and sees what came of it.
func (s *suite) try(ctx context.Context, a attack) row {
	r := row{attack: a, want: a.expected(s.tier)}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	args := append([]string{"exec", "-e", "ATTACK=" + a.id}, a.flags...)
	args = append(args, a.box)
	for _, word := range a.run {
		args = append(args, strings.ReplaceAll(word, "@", "/w/"+a.id))
	}
	out, err := s.Docker.Command(ctx, args...).CombinedOutput()
	if ctx.Err() != nil {
		r.problem = "it did not end"
		return r
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == impossible {
		r.want = "impossible"
	}
	if r.want == unseen || r.want == "impossible" {
		return r
	}
	r.incident = s.ledger.await(ctx, a)
	r.harmed = r.want == stopped && s.harm(ctx, a)
	switch {
	case r.incident == nil:
		r.problem = fmt.Sprintf("no incident about it (%v: %s)", err, strings.TrimSpace(string(out)))
	case r.harmed:
		r.problem = "it did its harm"
	case r.want == stopped && !wasStopped(r.incident):
		r.problem = "nothing stopped it, yet it did no harm: " + fmt.Sprint(err) + ": " + strings.TrimSpace(string(out))
	}
	return r
}

// harm asks the witness. A mark may come a moment after the command ended: the
// listener's answer to a shell takes its time, and only absence is waited for.
func (s *suite) harm(ctx context.Context, a attack) bool {
	if a.harmed != nil {
		return a.harmed(s)
	}
	return stage.Poll(ctx, time.Second, a.id+" appears", func() (bool, error) { return s.Left(a.id), nil }) == nil
}

func wasStopped(i *stage.Incident) bool {
	return i.Decision.Outcome == event.Prevented || i.Decision.Outcome == event.Killed
}

// ledger holds the incidents of this run. Safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	list []entry
	more chan struct{} // closed and replaced when the list grew
}

type entry struct {
	stage.Incident
	text string // its event, as JSON
}

func newLedger() *ledger { return &ledger{more: make(chan struct{})} }

// keep reads incidents until ctx ends.
func (l *ledger) keep(ctx context.Context, c *stage.Console) {
	last := uint64(0)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		list, err := c.Incidents(ctx, last)
		if err != nil {
			continue // the attacks that wait for it say so
		}
		var fresh []entry
		for _, inc := range list {
			text, err := json.Marshal(inc.Event)
			if err == nil && inc.ID > last {
				fresh = append(fresh, entry{inc, string(text)})
			}
		}
		for _, e := range fresh {
			last = max(last, e.ID)
		}
		if len(fresh) > 0 {
			l.mu.Lock()
			l.list = append(l.list, fresh...)
			close(l.more)
			l.more = make(chan struct{})
			l.mu.Unlock()
		}
	}
}

// await waits for the incident that tells of an attack, up to 15 seconds.
func (l *ledger) await(ctx context.Context, a attack) *stage.Incident {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		found, more := l.find(a)
		if found != nil {
			return found
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

// find prefers an incident about an act that was stopped.
func (l *ledger) find(a attack) (found *stage.Incident, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if e.Container == nil || e.Container.Name != a.box || !strings.Contains(e.text, a.about) ||
			!slices.Contains(a.tells, e.Detection) && !slices.Contains(a.tells, string(e.Decision.Control)) {
			continue
		}
		if found == nil || wasStopped(&e.Incident) && !wasStopped(found) {
			found = &e.Incident
		}
	}
	return found, l.more
}

// table prints the rows and counts those that did not end as they should.
func table(rows []row) (failed int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tBOX\tEXPECTED\tOUTCOME\tHARM\tTOLD BY\tSEVERITY\t")
	for _, r := range rows {
		what, by, severity, harm, mark := "-", "-", "-", "-", ""
		if i := r.incident; i != nil {
			what, severity = string(i.Decision.Outcome), string(i.Severity)
			if by = i.Detection; by == "" {
				by = "policy: " + string(i.Decision.Control)
			}
		}
		if r.want == stopped {
			harm = "none"
		}
		if r.harmed {
			harm = "DONE"
		}
		if r.problem != "" {
			failed++
			mark = "FAILED: " + r.problem
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.title, r.box, r.want, what, harm, by, severity, mark)
	}
	_ = w.Flush() // standard output is gone: nobody to tell
	return failed
}
