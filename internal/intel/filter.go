package intel

import "encoding/binary"

// A filter is a Bloom filter: has never says no for a key that was added. With
// ten bits a key it says yes wrongly for about one key in a hundred. Its bits
// depend on the set of keys alone, and are part of the schema.
type filter []byte

const (
	filterBits   = 10 // per key
	filterProbes = 7
)

func newFilter(keys int) filter { return make(filter, max(8, (keys*filterBits+7)/8)) }

func (f filter) add(h uint64) {
	step := h>>32 | 1
	for range filterProbes {
		bit := h % (uint64(len(f)) * 8)
		f[bit/8] |= 1 << (bit % 8)
		h += step
	}
}

func (f filter) has(h uint64) bool {
	step := h>>32 | 1
	for range filterProbes {
		bit := h % (uint64(len(f)) * 8)
		if f[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
		h += step
	}
	return true
}

// packageHash is FNV-1a of both names, finished by a mixing step.
func packageHash(ecosystem, name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(ecosystem) {
		h = (h ^ uint64(ecosystem[i])) * 1099511628211
	}
	h = (h ^ 0xff) * 1099511628211
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return mix(h)
}

// fileHash takes what is a hash already.
func fileHash(hash []byte) uint64 { return mix(binary.LittleEndian.Uint64(hash)) }

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}
