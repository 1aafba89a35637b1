package agent

import (
	"context"
	"slices"
	"sync"
)

// keepJudging judges containers that appeared, until ctx ends, but not before
// there is a policy or the server was waited for. A judgement may scan an
// image: responses to incidents must not wait behind it.
func (a *Agent) keepJudging(ctx context.Context) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return nil
	}
	for {
		id, ok := a.unjudged.take(ctx)
		if !ok {
			return nil
		}
		err := a.judgeAppeared(ctx, id)
		if err == nil && ctx.Err() == nil {
			err = a.settled.add(map[string]uint64{id: a.containers.cgroup(id)})
		}
		a.problem("judge "+short(id), ignoreUnknown(err))
	}
}

// queue holds each id once, in the order in which they came. Safe for
// concurrent use.
type queue struct {
	more chan struct{} // has a value when ids may wait

	mu  sync.Mutex
	ids []string
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) add(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.ids, id) {
		q.ids = append(q.ids, id)
	}
	q.signal()
}

// take waits for an id; ok is false when ctx ended.
func (q *queue) take(ctx context.Context) (id string, ok bool) {
	for {
		select {
		case <-q.more:
		case <-ctx.Done():
			return "", false
		}
		if id, ok = q.first(); ok {
			return id, true
		}
	}
}

func (q *queue) first() (id string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.ids) == 0 { // it was signalled twice
		return "", false
	}
	id, q.ids = q.ids[0], q.ids[1:]
	if len(q.ids) > 0 {
		q.signal()
	}
	return id, true
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default: // it is signalled already
	}
}
