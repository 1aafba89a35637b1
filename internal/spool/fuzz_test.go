package spool

import (
	"bytes"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// FuzzSegment gives the two readers of segments anything: they agree on what is
// readable, and a frame appended behind it is always found.
func FuzzSegment(f *testing.F) {
	var whole []byte
	for i, key := range []string{"a", "b", "c"} {
		frame := newFrame(api.RecordIncident, key, time.Unix(9, 0), []byte(`{"x":1}`))
		number(frame, uint64(i+1))
		whole = append(whole, frame...)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(append([]byte("BWR1BWR1"), whole...))
	f.Add(append(bytes.Clone(whole[50:]), whole...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		seg := scan(b, 1)
		if seg.size > int64(len(b)) || seg.torn != (seg.size < int64(len(b))) {
			t.Fatalf("size %d, torn %v of %d bytes", seg.size, seg.torn, len(b))
		}
		mine := newFrame(api.RecordEvent, "mine", time.Unix(9, 0), []byte(`{}`))
		number(mine, seg.last+1)
		b = append(bytes.Clone(b[:seg.size]), mine...)
		c := &collection{upTo: seg.last + 1, records: len(b), bytes: len(b)}
		if _, err := c.segment(bytes.NewReader(b), 0); err != nil {
			t.Fatal(err)
		}
		have := uint64(0)
		for _, n := range seg.good {
			have += n
		}
		if uint64(len(c.out)) != have+1 || c.out[have].Key != "mine" {
			t.Fatalf("scan found %d records, reading %d", have, len(c.out)-1)
		}
	})
}
