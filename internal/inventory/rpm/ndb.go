package rpm

import (
	"encoding/binary"
	"errors"
)

// The reader of RPM's own database format follows the description at the head
// of RPM's lib/backend/ndb/rpmpkg.c: pages of slots, each slot the place of one
// package's header in blocks of 16 bytes. All numbers are little-endian.

const (
	ndbMagic     = "RpmP"
	slotMagic    = "Slot"
	blobMagic    = "BlbS"
	slotPage     = 4096
	slotSize     = 16
	blockSize    = 16
	blobHeadSize = 16
	slotsHead    = 2 // slots that the file's head takes the place of
	maxSlotPages = 16_384
)

var errNotNDB = errors.New("is not a database of RPM")

// ndb calls each with the header of every package.
func (f *file) ndb(each func([]byte) error) error {
	head, err := f.bytes(0, slotsHead*slotSize)
	if err != nil || string(head[:4]) != ndbMagic || binary.LittleEndian.Uint32(head[4:]) != 0 {
		return errNotNDB
	}
	pages := int64(binary.LittleEndian.Uint32(head[12:]))
	if pages == 0 || pages > maxSlotPages {
		return errDamaged
	}
	slots, err := f.bytes(0, pages*slotPage)
	if err != nil {
		return err
	}
	for at := slotsHead * slotSize; at+slotSize <= len(slots); at += slotSize {
		slot := slots[at:]
		if string(slot[:4]) != slotMagic {
			return errDamaged
		}
		number := binary.LittleEndian.Uint32(slot[4:])
		if number == 0 {
			continue // free
		}
		content, err := f.blob(number, int64(binary.LittleEndian.Uint32(slot[8:])), int64(binary.LittleEndian.Uint32(slot[12:])))
		if err != nil {
			return err
		}
		if err := each(content); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) blob(number uint32, block, blocks int64) ([]byte, error) {
	head, err := f.bytes(block*blockSize, blobHeadSize)
	if err != nil {
		return nil, err
	}
	size := int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:4]) != blobMagic || binary.LittleEndian.Uint32(head[4:]) != number || size > blocks*blockSize {
		return nil, errDamaged
	}
	if err := f.spend(size); err != nil {
		return nil, err
	}
	return f.bytes(block*blockSize+blobHeadSize, size)
}
