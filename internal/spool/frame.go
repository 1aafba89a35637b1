package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// A segment is a file of frames, each:
//
//	magic "BWR1"            4
//	size of the payload     4
//	sequence number         8
//	class                   1, and 3 zero bytes
//	CRC-32C of the payload  4
//	CRC-32C of all above    4
//	payload                 time in ns 8, length of key 2, key, body
//
// Numbers are little-endian. The header has a sum of its own so that a damaged
// body costs one record, and a damaged header only what lies before the next
// magic with a right header.
const (
	magic       = "BWR1"
	headerSize  = 28
	payloadHead = 10
	maxPayload  = payloadHead + MaxKey + MaxBody
	maxSequence = 1 << 62
)

var (
	errShort  = errors.New("frame is cut short")
	errHeader = errors.New("frame header is damaged")
	errBody   = errors.New("frame payload is damaged")
)

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// classOf is the byte that stands for a kind; 0 for unknown kinds.
func classOf(kind api.RecordKind) byte {
	switch kind {
	case api.RecordIncident:
		return 1
	case api.RecordEvent:
		return 2
	case api.RecordReport:
		return 3
	}
	return 0
}

func kindOf(class byte) api.RecordKind {
	switch class {
	case 1:
		return api.RecordIncident
	case 2:
		return api.RecordEvent
	case 3:
		return api.RecordReport
	}
	return ""
}

// newFrame lays out a record; number completes it.
func newFrame(kind api.RecordKind, key string, at time.Time, body []byte) []byte {
	b := make([]byte, headerSize+payloadHead, headerSize+payloadHead+len(key)+len(body))
	copy(b, magic)
	b[16] = classOf(kind)
	binary.LittleEndian.PutUint64(b[headerSize:], uint64(at.UnixNano()))
	binary.LittleEndian.PutUint16(b[headerSize+8:], uint16(len(key)))
	b = append(append(b, key...), body...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-headerSize))
	binary.LittleEndian.PutUint32(b[20:], castagnoli(b[headerSize:]))
	return b
}

// number writes the sequence number into a frame and seals its header.
func number(frame []byte, seq uint64) {
	binary.LittleEndian.PutUint64(frame[8:], seq)
	binary.LittleEndian.PutUint32(frame[24:], castagnoli(frame[:24]))
}

// decode reads the frame at the start of b. n is the frame's full size when
// its header is right, also with errBody and errShort (more bytes are needed);
// with errShort and n 0 not even the header is whole.
func decode(b []byte) (r api.Record, n int, err error) {
	if len(b) < headerSize {
		return r, 0, errShort
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if string(b[:4]) != magic || castagnoli(b[:24]) != binary.LittleEndian.Uint32(b[24:]) ||
		size < payloadHead || size > maxPayload || kindOf(b[16]) == "" ||
		binary.LittleEndian.Uint64(b[8:])-1 >= maxSequence {
		return r, 0, errHeader
	}
	r.Sequence, r.Kind = binary.LittleEndian.Uint64(b[8:]), kindOf(b[16])
	n = headerSize + int(size)
	if len(b) < n {
		return r, n, errShort
	}
	payload := b[headerSize:n]
	if castagnoli(payload) != binary.LittleEndian.Uint32(b[20:]) {
		return r, n, errBody
	}
	keyEnd := payloadHead + int(binary.LittleEndian.Uint16(payload[8:]))
	if keyEnd > len(payload) {
		return r, n, errBody
	}
	r.Time = time.Unix(0, int64(binary.LittleEndian.Uint64(payload))).UTC()
	r.Key = string(payload[payloadHead:keyEnd])
	r.Body = bytes.Clone(payload[keyEnd:])
	return r, n, nil
}

// resync finds the next offset in b, after the first byte, where a right header
// starts; ok is false when there is none.
func resync(b []byte) (off int, ok bool) {
	for off = 1; off+headerSize <= len(b); off++ {
		i := bytes.Index(b[off:], []byte(magic))
		if i < 0 {
			return 0, false
		}
		off += i
		if _, n, _ := decode(b[off:]); n > 0 {
			return off, true
		}
	}
	return 0, false
}
