package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestLinesWaitForTheAnswer: nothing is printed into a question, and nothing is
// lost by it.
func TestLinesWaitForTheAnswer(t *testing.T) {
	var out bytes.Buffer
	w := &heldWriter{w: &out}
	fmt.Fprintln(w, "before")
	release := w.hold()
	fmt.Fprintln(w, "meanwhile")
	if got := out.String(); got != "before\n" {
		t.Errorf("into the question: %q", got)
	}
	release()
	fmt.Fprintln(w, "after")
	if got := out.String(); got != "before\nmeanwhile\nafter\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	release = w.hold()
	for range 3 {
		fmt.Fprintln(w, strings.Repeat("x", maxHeld/2))
	}
	release()
	if got := out.String(); !strings.HasSuffix(got, "and 2 more lines, left out\n") || len(got) > maxHeld+100 {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-40):])
	}
	var none *heldWriter
	none.hold()()
}
