package inventory

import "testing"

// TestSipHash holds the values that the paper's reference code prints for the
// key 00 01 … 0f and the inputs "", 00, 00 01, …
func TestSipHash(t *testing.T) {
	var key Key
	var input []byte
	for i := range key {
		key[i] = byte(i)
	}
	want := map[int]uint64{0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137, 8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5}
	for n := range 16 {
		if got, ok := want[n]; ok && key.sum(string(input)) != got {
			t.Errorf("%d bytes: got %x, want %x", n, key.sum(string(input)), got)
		}
		input = append(input, byte(n))
	}
}
