package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify"
)

const patience = 60 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shelf is a source in memory with the incidents 1 to n.
type shelf struct {
	mu    sync.Mutex
	n     uint64
	saved uint64
	err   error
}

func (s *shelf) After(_ context.Context, cursor uint64, limit int) ([]notify.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []notify.Entry
	for c := cursor + 1; c <= s.n && len(list) < limit; c++ {
		list = append(list, notify.Entry{Cursor: c, Incident: event.Incident{Key: fmt.Sprint(c)}})
	}
	return list, s.err
}

func (s *shelf) SaveCursor(_ context.Context, cursor uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = cursor
	return nil
}

func (s *shelf) cursor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

func (s *shelf) set(n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.err = n, err
}

// port is a transport that counts, and whose sessions a test can break.
type port struct {
	mu       sync.Mutex
	got      []string
	open     *dock
	refuse   error // of Open
	noCloses bool  // the receiver ends without proof
}

type dock struct {
	port   *port
	broken chan struct{}
}

func (p *port) Open(context.Context) (notify.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	p.open = &dock{p, make(chan struct{})}
	return p.open, nil
}

func (d *dock) Send(_ context.Context, incidents []event.Incident) error {
	d.port.mu.Lock()
	defer d.port.mu.Unlock()
	for _, i := range incidents {
		d.port.got = append(d.port.got, i.Key)
	}
	return nil
}

func (d *dock) Broken() <-chan struct{} { return d.broken }

func (d *dock) Close(context.Context) error {
	select {
	case <-d.broken:
		return errors.New("broken")
	default:
	}
	if d.port.noCloses {
		return errors.New("no proof")
	}
	return nil
}

func (p *port) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *port) breakNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.open.broken)
}

func run(t *testing.T, f *notify.Forwarder) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func TestWhatIsInDoubtIsSentAgain(t *testing.T) {
	s, p := &shelf{n: 100}, &port{noCloses: true}
	wake := make(chan struct{}, 1)
	stop := run(t, notify.New(s, p, notify.Options{Cursor: 90, Wake: wake, Poll: time.Hour, Settle: time.Hour}))
	eventually(t, "91 to 100", func() bool { return len(p.seen()) == 10 })
	p.breakNow()
	eventually(t, "91 to 100 again", func() bool { return len(p.seen()) == 20 })
	s.set(101, nil)
	wake <- struct{}{}
	eventually(t, "101", func() bool { return len(p.seen()) == 21 })
	stop()
	if got := p.seen(); got[0] != "91" || got[9] != "100" || got[10] != "91" || got[20] != "101" {
		t.Errorf("got %v", got)
	}
	if s.cursor() != 0 {
		t.Errorf("cursor %d saved without any proof", s.cursor())
	}
}

func TestCursorFollowsASettledConnectionAndAnOrderlyEnd(t *testing.T) {
	s, p := &shelf{n: 150}, &port{}
	f := notify.New(s, p, notify.Options{Poll: time.Millisecond, Settle: time.Millisecond})
	stop := run(t, f)
	eventually(t, "settled", func() bool { return s.cursor() == 150 && f.State().Cursor == 150 })
	stop()

	s.set(160, nil)
	stop = run(t, notify.New(s, p, notify.Options{Cursor: 150, Settle: time.Hour}))
	eventually(t, "151 to 160", func() bool { return len(p.seen()) == 160 })
	if s.cursor() != 150 {
		t.Errorf("cursor %d before the settle time", s.cursor())
	}
	stop()
	if s.cursor() != 160 {
		t.Errorf("cursor %d after an orderly end", s.cursor())
	}
}

func TestStateSaysWhyNothingArrives(t *testing.T) {
	s, p := &shelf{n: 1}, &port{refuse: errors.New("connection refused")}
	f := notify.New(s, p, notify.Options{})
	run(t, f)
	eventually(t, "the refusal", func() bool {
		st := f.State()
		return !st.Connected && st.Err != nil && strings.Contains(st.Err.Error(), "connection refused")
	})
	s.set(1, errors.New("database is locked"))
	p.mu.Lock()
	p.refuse = nil
	p.mu.Unlock()
	eventually(t, "the locked database", func() bool {
		err := f.State().Err
		return err != nil && strings.Contains(err.Error(), "database is locked")
	})
	s.set(1, nil)
	eventually(t, "delivery", func() bool { return len(p.seen()) > 0 && f.State().Err == nil && f.State().Connected })
}
