package agent

import (
	"errors"
	"testing"
	"time"
)

// A look that never ends holds nobody up, and no more than so many are begun.
func TestLooksThatDoNotEnd(t *testing.T) {
	l := make(looks, 2)
	wrong := errors.New("wrong")
	if err := l.within(time.Minute, func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("the answer is %v", err)
	}
	stuck := make(chan struct{})
	for range 2 {
		if err := l.within(time.Millisecond, func() error { <-stuck; return nil }); err == nil {
			t.Error("a look that does not end is said to have ended")
		}
	}
	if err := l.within(time.Minute, func() error { t.Error("one more was begun"); return nil }); err == nil {
		t.Error("nobody is told that there is no room")
	}
	close(stuck)
	for range 2 { // both places become free
		l <- struct{}{}
	}
}
