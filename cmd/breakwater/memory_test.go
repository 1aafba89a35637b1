package main

import (
	"reflect"
	"strings"
	"testing"
)

// Only what nobody can have changed may be given back.
func TestUntouched(t *testing.T) {
	smaps := `00400000-01c47000 r-xp 00000000 fe:00 123 /usr/bin/breakwater
Rss:               16860 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01c47000-038f4000 r--p 01847000 fe:00 123 /usr/bin/breakwater
Anonymous:             4 kB
038f4000-03a8f000 rw-p 034f4000 fe:00 123 /usr/bin/breakwater
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 9 /usr/bin/breakwater-arm64
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000004000-7f0000005000 r--p 00000000 fe:00 123 /usr/bin/breakwater
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1c47000}, {0x7f0000004000, 0x7f0000005000}}
	if got := untouched(strings.NewReader(smaps), "/usr/bin/breakwater"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %#x, want %#x", got, want)
	}
}
