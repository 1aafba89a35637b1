package sensor

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func FuzzFanotifyRecords(f *testing.F) {
	m := unix.FanotifyEventMetadata{Event_len: 32, Vers: 3, Metadata_len: 24, Fd: -1, Pid: 7}
	record := append(append([]byte{}, unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))...), make([]byte, 8)...)
	f.Add(append(append([]byte{}, record...), record...))
	f.Add(record[:30])
	f.Add(make([]byte, 64)) // records of no length
	f.Fuzz(func(t *testing.T, b []byte) {
		read := 0
		for m, info := range fanotifyRecords(b) {
			if int(m.Event_len) != int(unsafe.Sizeof(*m))+len(info) {
				t.Fatalf("a record of %d bytes with %d behind it", m.Event_len, len(info))
			}
			read += int(m.Event_len)
			entryOf(info)
		}
		if read > len(b) {
			t.Fatalf("%d bytes read of %d", read, len(b))
		}
	})
}

// What opens a file, by the registers of amd64's two tables and of arm64's.
func TestWrites(t *testing.T) {
	for line, want := range map[string][2]bool{
		"257 0xffffff9c 0x7ffe 0x80000 0x0 0x0 0x0 0x7ffe 0x7f": {false, true},
		"257 0xffffff9c 0x7ffe 0x80001 0x0 0x0 0x0 0x7ffe 0x7f": {true, true},
		"2 0x7ffe 0x2 0x0 0x0 0x0 0x0 0x7ffe 0x7f":              {true, true},
		"5 0x7ffe 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f":              {false, true},
		"85 0x7ffe 0x1ff 0x0 0x0 0x0 0x0 0x7ffe 0x7f":           {true, true},
		"437 0xffffff9c 0x7ffe 0x7ffe 0x18 0x0 0x0 0x7ffe 0x7f": {true, false},
		"running":                    {true, false},
		"":                           {true, false},
		"257 0xffffff9c 0x7ffe junk": {true, false},
	} {
		if write, sure := writes(line, "amd64"); write != want[0] || sure != want[1] {
			t.Errorf("%q: %v %v, want %v", line, write, sure, want)
		}
	}
	if write, sure := writes("56 0xffffff9c 0x7ffe 0x1 0x0", "arm64"); !write || !sure {
		t.Errorf("arm64's openat: %v %v", write, sure)
	}
}
