package auth

import (
	"sync"
	"time"
)

// The login limit: so many failures of one account from one address, or of one
// address with any accounts, within the window; then nothing until it is over.
const (
	accountFailures = 5
	addressFailures = 30
	failureWindow   = 15 * time.Minute
	maxTracked      = 10_000
)

// limiter counts failed logins. Its memory is bounded: when it is full, the
// oldest half goes.
type limiter struct {
	now func() time.Time

	mu     sync.Mutex // guards what follows
	failed map[string]failures
}

type failures struct {
	count int
	since time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, failed: map[string]failures{}}
}

// keys are what one attempt counts against, with their limits.
func limitKeys(account, address string) map[string]int {
	return map[string]int{"account\x00" + account + "\x00" + address: accountFailures, "address\x00" + address: addressFailures}
}

// reserve counts an attempt before its password is looked at, so that attempts
// at the same time cannot pass the limit together; clear takes it back. It
// returns how long to wait when the limit is reached.
func (l *limiter) reserve(account, address string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for key, most := range limitKeys(account, address) {
		f := l.failed[key]
		age := now.Sub(f.since)
		if age >= failureWindow || age < 0 { // over, or the clock went back
			delete(l.failed, key)
			continue
		}
		if f.count >= most {
			wait = max(wait, failureWindow-age)
		}
	}
	if wait > 0 {
		return wait, false
	}
	l.shrink()
	for key := range limitKeys(account, address) {
		f := l.failed[key]
		if f.count == 0 {
			f.since = now
		}
		f.count++
		l.failed[key] = f
	}
	return 0, true
}

// clear forgets an account's failures from an address after a right password,
// and the attempt itself from the address's.
func (l *limiter) clear(account, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, "account\x00"+account+"\x00"+address)
	key := "address\x00" + address
	if f := l.failed[key]; f.count > 1 {
		f.count--
		l.failed[key] = f
	} else {
		delete(l.failed, key)
	}
}

func (l *limiter) shrink() {
	if len(l.failed) < maxTracked {
		return
	}
	old := l.now().Add(-failureWindow / 2)
	for key, f := range l.failed {
		if f.since.Before(old) {
			delete(l.failed, key)
		}
	}
	for key := range l.failed { // still full: an attack from many addresses
		if len(l.failed) < maxTracked/2 {
			return
		}
		delete(l.failed, key)
	}
}
