package gate

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate/dockerfacts"
)

const (
	believed      = time.Minute // how long an answer is believed, should the engine lose an event
	followAgain   = time.Second // after a stream of events ended
	maxRemembered = 1024        // images
)

// memory is what the engine said that changes only with an event of its own:
// which image a name means, and how its host is. It remembers nothing while
// the engine's events are not heard. Events come a moment after what they tell
// of: a name that was moved in that moment is judged by its old content when a
// container is created, and by its new one when it starts, which asks the
// engine for the container's digest. Safe for concurrent use.
type memory struct {
	mu     sync.Mutex
	heard  bool   // events are heard
	epoch  uint64 // counts what was forgotten
	images map[string]remembered[event.Image]
	host   remembered[dockerfacts.Host]
}

type remembered[T any] struct {
	value T
	since time.Time
}

func (r remembered[T]) fresh() bool {
	age := time.Since(r.since)
	return !r.since.IsZero() && age >= 0 && age < believed
}

// forget drops everything; heard says whether events are heard from now on.
func (m *memory) forget(heard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard, m.host = heard, remembered[dockerfacts.Host]{}
	m.images = map[string]remembered[event.Image]{}
	m.epoch++
}

// image gives what is remembered of a name; the epoch belongs into keepImage
// with what the engine answers otherwise.
func (m *memory) image(name string) (found event.Image, epoch uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.images[name]
	return r.value, m.epoch, r.fresh()
}

// keepImage remembers an answer, unless something was forgotten since epoch:
// it may be older than the event.
func (m *memory) keepImage(name string, epoch uint64, found event.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.heard || m.epoch != epoch {
		return
	}
	if len(m.images) >= maxRemembered {
		clear(m.images)
	}
	m.images[name] = remembered[event.Image]{found, time.Now()}
}

func (m *memory) describe() (host dockerfacts.Host, epoch uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host.value, m.epoch, m.host.fresh()
}

func (m *memory) keepHost(epoch uint64, host dockerfacts.Host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heard && m.epoch == epoch {
		m.host = remembered[dockerfacts.Host]{host, time.Now()}
	}
}

// follow listens to the engine's events until ctx ends, and forgets with each
// one what was remembered.
func (e *engine) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		e.hear(ctx)
		e.memory.forget(false)
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
	return nil
}

// describeAnew renews the host's description before it is too old, until ctx
// ends: an engine takes its time for it, and no call should wait for that.
func (e *engine) describeAnew(ctx context.Context) error {
	tick := time.NewTicker(believed / 3)
	defer tick.Stop()
	for {
		_, epoch, _ := e.memory.describe()
		if host, err := e.askHost(ctx); err == nil { // else it is asked again when it is needed
			e.memory.keepHost(epoch, host)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// hear reads one stream of events to its end. What an event says does not
// matter: whatever happens to images or to the engine itself is reason enough.
func (e *engine) hear(ctx context.Context) {
	now := time.Now()
	query := url.Values{
		"filters": {`{"type":["image","daemon"]}`},
		// The engine answers a moment before it listens itself: what happens in
		// between is told again. Its clock is ours.
		"since": {fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())},
	}
	u := url.URL{Scheme: "http", Host: "docker", Path: "/events", RawQuery: query.Encode()}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return
	}
	stream := http.Client{Transport: e.client.Transport, CheckRedirect: e.client.CheckRedirect} // without a time limit
	r, err := stream.Do(q)
	if err != nil {
		return // the engine is away: nothing is remembered, and every judgement says why
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return
	}
	some := make([]byte, 4096)
	for err == nil {
		e.memory.forget(true)
		_, err = r.Body.Read(some)
	}
}
