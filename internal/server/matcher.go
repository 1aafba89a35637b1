package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/intel"
)

// matcher is the intelligence bundle that the server itself judges by. Safe for
// concurrent use.
type matcher struct {
	data string // the folder that bundles lie in; "": there is none

	mu   sync.Mutex
	used *usedBundle // nil when there is none
	link string      // target of the link that it was opened by
}

// usedBundle is closed when a newer one took its place and nobody uses it.
type usedBundle struct {
	*intel.Bundle
	users sync.WaitGroup // added to under the matcher's mu, while it is the one in use
}

// take gives the bundle in use, nil when there is none; the caller says Done
// to its users.
func (m *matcher) take() *usedBundle {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used != nil {
		m.used.users.Add(1)
	}
	return m.used
}

// refresh opens the bundle that lies on disk when it is another one than
// before; changed says so.
func (m *matcher) refresh(ctx context.Context) (changed bool, err error) {
	if m.data == "" {
		return false, nil
	}
	link, err := os.Readlink(filepath.Join(m.data, "intel", "current"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	m.mu.Lock()
	same := link == m.link
	m.mu.Unlock()
	if err != nil || same {
		return false, err
	}
	bundle, err := intel.Open(ctx, m.data)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	old := m.used
	m.used, m.link = &usedBundle{Bundle: bundle}, link
	m.mu.Unlock()
	if old != nil {
		go func() {
			old.users.Wait()
			_ = old.Close() // it was only read
		}()
	}
	return true, nil
}

func (m *matcher) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used == nil {
		return nil
	}
	err := m.used.Close()
	m.used = nil
	return err
}
