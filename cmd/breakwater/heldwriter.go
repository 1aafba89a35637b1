package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxHeld bounds what is held back, in bytes.
const maxHeld = 1 << 20

// heldWriter keeps log lines from being printed into a question: while it is
// held, they wait. Safe for concurrent use.
type heldWriter struct {
	w io.Writer

	mu      sync.Mutex
	held    bool
	waiting bytes.Buffer
	left    int // lines that found no room
}

// Write takes one line. While it is held nothing can go wrong with it.
func (h *heldWriter) Write(line []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.held:
		return h.w.Write(line)
	case h.waiting.Len()+len(line) > maxHeld:
		h.left++
		return len(line), nil
	}
	return h.waiting.Write(line)
}

// hold keeps lines back until release is called. A nil writer holds nothing.
func (h *heldWriter) hold() (release func()) {
	if h == nil {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = true
	return h.release
}

func (h *heldWriter) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	if h.left > 0 {
		fmt.Fprintf(&h.waiting, "and %d more lines, left out\n", h.left)
	}
	_, _ = h.waiting.WriteTo(h.w) // a log that cannot be written is no reason to end
	h.waiting.Reset()
	h.left = 0
}
