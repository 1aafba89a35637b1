package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// The reader of Berkeley DB knows what walking all pages of a hash database
// needs: metadata, hash pages and overflow pages, as the library's header
// dbinc/db_page.h lays them out. The byte order is the writer's.

const (
	hashMagic    = 0x061561
	hashHeadSize = 72
	pageHead     = 26
	unsortedPage = 2
	sortedPage   = 13
	overflowPage = 7
	inPlace      = 1 // an item that lies in its page
	offPage      = 3 // one that lies in overflow pages
	offPageSize  = 12
)

var errNotHash = errors.New("is not a Berkeley DB hash database")

type hashDB struct {
	*file
	order binary.ByteOrder
	page  int64 // bytes
}

// hash calls each with every value of the database but that of key 0, which is
// RPM's counter.
func (f *file) hash(each func([]byte) error) error {
	head, err := f.bytes(0, hashHeadSize)
	if err != nil {
		return errNotHash
	}
	h := hashDB{file: f, order: binary.LittleEndian}
	if binary.BigEndian.Uint32(head[12:]) == hashMagic {
		h.order = binary.BigEndian
	}
	h.page = int64(h.order.Uint32(head[20:]))
	if h.order.Uint32(head[12:]) != hashMagic {
		return errNotHash
	}
	if h.page < 512 || h.page > 65536 || h.page&(h.page-1) != 0 {
		return errDamaged
	}
	last := int64(h.order.Uint32(head[32:]))
	if (last+1)*h.page > f.size {
		return errDamaged
	}
	for number := int64(1); number <= last; number++ {
		page, err := f.bytes(number*h.page, h.page)
		if err != nil {
			return err
		}
		if page[25] != unsortedPage && page[25] != sortedPage {
			continue
		}
		if err := h.items(page, each); err != nil {
			return err
		}
	}
	return nil
}

// items takes the pairs of a page. Items grow from the page's end: each one
// ends where the one before it begins.
func (h *hashDB) items(page []byte, each func([]byte) error) error {
	entries := int(h.order.Uint16(page[20:]))
	if pageHead+2*entries > len(page) {
		return errDamaged
	}
	at := func(i int) int { return int(h.order.Uint16(page[pageHead+2*i:])) }
	for i := 0; i+1 < entries; i += 2 {
		end := len(page)
		if i > 0 {
			end = at(i - 1)
		}
		key, value := at(i), at(i+1)
		if value < pageHead || value >= key || key >= end || end > len(page) {
			return errDamaged
		}
		if len(bytes.Trim(page[key+1:end], "\x00")) == 0 {
			continue
		}
		content, err := h.item(page[value:key])
		if err != nil {
			return err
		}
		if err := each(content); err != nil {
			return err
		}
	}
	return nil
}

func (h *hashDB) item(item []byte) ([]byte, error) {
	switch {
	case item[0] == inPlace:
		return item[1:], h.spend(int64(len(item)))
	case item[0] == offPage && len(item) >= offPageSize:
		return h.overflow(int64(h.order.Uint32(item[4:])), int64(h.order.Uint32(item[8:])))
	}
	return nil, errDamaged
}

func (h *hashDB) overflow(number, size int64) ([]byte, error) {
	if err := h.spend(size); err != nil {
		return nil, err
	}
	out := make([]byte, 0, size)
	for int64(len(out)) < size {
		page, err := h.bytes(number*h.page, h.page)
		if err != nil {
			return nil, err
		}
		n := int64(h.order.Uint16(page[22:]))
		if number == 0 || page[25] != overflowPage || n == 0 || n > h.page-pageHead {
			return nil, errDamaged
		}
		out = append(out, page[pageHead:pageHead+n]...)
		number = int64(h.order.Uint32(page[16:]))
	}
	if int64(len(out)) != size {
		return nil, errDamaged
	}
	return out, nil
}
