package trivydb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// boltFile reads the pages of a bbolt file in order of their keys. It keeps one
// page per level, and refuses whatever points outside.
type boltFile struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	visits   int // pages read: a cycle ends here
}

const (
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	pageHeader    = 16
	elementSize   = 16 // of branch and leaf pages alike
	bucketHeader  = 16
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagMeta      = 0x04
	leafBucket    = 0x01
	maxBoltDepth  = 40
	maxPageBytes  = 64 << 20
	minBoltPage   = 1 << 10
	maxBoltPage   = 1 << 16
	visitsPerPage = 2
)

var errBolt = errors.New("the file is not a whole bbolt database")

// openBolt finds the newest valid meta page and returns the root bucket.
func openBolt(r io.ReaderAt, size int64) (*boltFile, bucket, error) {
	head := make([]byte, 80)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, bucket{}, errBolt
	}
	f := &boltFile{r: r, size: size, pageSize: int64(binary.LittleEndian.Uint32(head[pageHeader+8:]))}
	if f.pageSize < minBoltPage || f.pageSize > maxBoltPage || f.pageSize&(f.pageSize-1) != 0 || size < 4*f.pageSize {
		return nil, bucket{}, errBolt
	}
	var root uint64
	var newest uint64
	found := false
	for page := range int64(2) {
		if _, err := r.ReadAt(head, page*f.pageSize); err != nil {
			return nil, bucket{}, errBolt
		}
		meta := head[pageHeader:]
		if binary.LittleEndian.Uint16(head[8:])&flagMeta == 0 || binary.LittleEndian.Uint32(meta) != boltMagic ||
			binary.LittleEndian.Uint32(meta[4:]) != boltVersion || !sumOK(meta) {
			continue
		}
		if id := binary.LittleEndian.Uint64(meta[48:]); !found || id > newest {
			found, newest, root = true, id, binary.LittleEndian.Uint64(meta[16:])
		}
	}
	if !found {
		return nil, bucket{}, errBolt
	}
	return f, bucket{root: root}, nil
}

// sumOK checks a meta page's FNV-1a checksum, which follows what it covers.
func sumOK(meta []byte) bool {
	h := fnv.New64a()
	_, _ = h.Write(meta[:56]) // never fails
	return h.Sum64() == binary.LittleEndian.Uint64(meta[56:])
}

// bucket is a tree of pages, or one page inside the bucket's own value.
type bucket struct {
	root   uint64
	inline []byte
}

// item is a key with its value, or with the bucket that it names.
type item struct {
	key, value []byte
	bucket     *bucket
}

// each calls with every item of a bucket in the order of keys. Key and value
// are valid during the call.
func (f *boltFile) each(b bucket, call func(item) error) error {
	if b.root == 0 {
		return f.page(b.inline, 0, call)
	}
	return f.tree(b.root, 0, call)
}

func (f *boltFile) tree(id uint64, depth int, call func(item) error) error {
	if f.visits++; depth > maxBoltDepth || int64(f.visits) > visitsPerPage*(f.size/f.pageSize+1) {
		return fmt.Errorf("%w: its pages go in a circle", errBolt)
	}
	page, err := f.read(id)
	if err != nil {
		return err
	}
	return f.page(page, depth, call)
}

// read gets a page with the pages that it overflows to.
func (f *boltFile) read(id uint64) ([]byte, error) {
	if id > uint64(f.size/f.pageSize) {
		return nil, errBolt
	}
	head := make([]byte, pageHeader)
	if _, err := f.r.ReadAt(head, int64(id)*f.pageSize); err != nil {
		return nil, errBolt
	}
	length := (int64(binary.LittleEndian.Uint32(head[12:])) + 1) * f.pageSize
	if binary.LittleEndian.Uint64(head) != id || length > maxPageBytes || int64(id)*f.pageSize+length > f.size {
		return nil, errBolt
	}
	page := make([]byte, length)
	if _, err := f.r.ReadAt(page, int64(id)*f.pageSize); err != nil {
		return nil, errBolt
	}
	return page, nil
}

func (f *boltFile) page(page []byte, depth int, call func(item) error) error {
	if len(page) < pageHeader {
		return errBolt
	}
	flags, count := binary.LittleEndian.Uint16(page[8:]), int(binary.LittleEndian.Uint16(page[10:]))
	if pageHeader+count*elementSize > len(page) {
		return errBolt
	}
	for i := range count {
		at := pageHeader + i*elementSize
		switch {
		case flags&flagBranch != 0:
			if err := f.tree(binary.LittleEndian.Uint64(page[at+8:]), depth+1, call); err != nil {
				return err
			}
		case flags&flagLeaf != 0:
			it, err := leafItem(page, at)
			if err != nil {
				return err
			}
			if err := call(it); err != nil {
				return err
			}
		default:
			return errBolt
		}
	}
	return nil
}

func leafItem(page []byte, at int) (item, error) {
	flags, pos := binary.LittleEndian.Uint32(page[at:]), int64(binary.LittleEndian.Uint32(page[at+4:]))
	keyLen, valueLen := int64(binary.LittleEndian.Uint32(page[at+8:])), int64(binary.LittleEndian.Uint32(page[at+12:]))
	begin := int64(at) + pos
	if begin+keyLen+valueLen > int64(len(page)) {
		return item{}, errBolt
	}
	it := item{key: page[begin : begin+keyLen], value: page[begin+keyLen : begin+keyLen+valueLen]}
	if flags&leafBucket != 0 {
		if len(it.value) < bucketHeader {
			return item{}, errBolt
		}
		it.bucket = &bucket{root: binary.LittleEndian.Uint64(it.value), inline: it.value[bucketHeader:]}
	}
	return it, nil
}
