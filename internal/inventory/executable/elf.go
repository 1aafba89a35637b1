package executable

import (
	"encoding/binary"
	"io"
	"strings"
)

// part is a part of the file.
type part struct{ off, size int64 }

// layout is what an ELF file's header says, as far as it is needed here. The
// numbers come from a hostile file: places are only ever read, and reading
// beyond the end fails.
type layout struct {
	order    binary.ByteOrder
	wide     bool
	shoff    int64
	shsize   int64
	shnum    int64
	shstrndx int64
	// data are the mapped parts that hold no code; all mapped parts in files of
	// old linkers, which put texts and code together.
	data []part
}

const (
	headSize    = 64
	maxPrograms = 64   // program headers
	maxSections = 4096 // section headers
	maxNames    = 1 << 20
	ptLoad      = 1
	executeFlag = 1
	writeFlag   = 2
)

func layoutOf(at io.ReaderAt) (layout, bool) {
	var h [headSize]byte
	if n, _ := at.ReadAt(h[:], 0); n < headSize || string(h[:4]) != "\x7fELF" {
		return layout{}, false
	}
	l := layout{order: binary.LittleEndian, wide: h[4] == 2}
	if h[5] == 2 {
		l.order = binary.BigEndian
	}
	o := l.order
	var phoff, phsize, phnum int64
	if l.wide {
		phoff, l.shoff = int64(o.Uint64(h[32:])), int64(o.Uint64(h[40:]))
		phsize, phnum, l.shsize, l.shnum, l.shstrndx = int64(o.Uint16(h[54:])), int64(o.Uint16(h[56:])), int64(o.Uint16(h[58:])), int64(o.Uint16(h[60:])), int64(o.Uint16(h[62:]))
	} else {
		phoff, l.shoff = int64(o.Uint32(h[28:])), int64(o.Uint32(h[32:]))
		phsize, phnum, l.shsize, l.shnum, l.shstrndx = int64(o.Uint16(h[42:])), int64(o.Uint16(h[44:])), int64(o.Uint16(h[46:])), int64(o.Uint16(h[48:])), int64(o.Uint16(h[50:]))
	}
	if phsize < 32 || l.wide && phsize < 56 || phnum > maxPrograms {
		return l, true
	}
	headers := make([]byte, phsize*phnum)
	if _, err := at.ReadAt(headers, phoff); err == nil {
		l.parts(headers, int(phsize))
	}
	return l, true
}

func (l *layout) parts(headers []byte, size int) {
	var code, writable []part
	for ; len(headers) >= size; headers = headers[size:] {
		o := l.order
		if o.Uint32(headers) != ptLoad {
			continue
		}
		var p part
		var flags uint32
		if l.wide {
			flags, p = o.Uint32(headers[4:]), part{int64(o.Uint64(headers[8:])), int64(o.Uint64(headers[32:]))}
		} else {
			flags, p = o.Uint32(headers[24:]), part{int64(o.Uint32(headers[4:])), int64(o.Uint32(headers[16:]))}
		}
		switch {
		case p.off < 0 || p.size <= 0 || p.off > 1<<40 || p.size > 1<<32:
		case flags&executeFlag != 0:
			code = append(code, p)
		case flags&writeFlag != 0:
			writable = append(writable, p)
		default:
			l.data = append(l.data, p)
		}
	}
	if len(l.data) == 0 {
		l.data = code
	}
	l.data = append(l.data, writable...)
}

// section finds a section by its name.
func (l *layout) section(at io.ReaderAt, name string) (part, bool) {
	least := int64(40)
	if l.wide {
		least = 64
	}
	if l.shsize < least || l.shsize > 1024 || l.shnum > maxSections || l.shstrndx >= l.shnum || l.shoff <= 0 {
		return part{}, false
	}
	headers := make([]byte, l.shsize*l.shnum)
	if _, err := at.ReadAt(headers, l.shoff); err != nil {
		return part{}, false
	}
	_, where := l.header(headers[l.shstrndx*l.shsize:])
	if where.off < 0 || where.size <= 0 || where.size > maxNames {
		return part{}, false
	}
	names := make([]byte, where.size)
	if n, _ := at.ReadAt(names, where.off); n < len(names) {
		return part{}, false
	}
	for ; int64(len(headers)) >= l.shsize; headers = headers[l.shsize:] {
		i, p := l.header(headers)
		if int64(i) < where.size && strings.HasPrefix(string(names[i:min(int64(len(names)), int64(i)+int64(len(name))+1)]), name+"\x00") && p.off >= 0 && p.size > 0 {
			return p, true
		}
	}
	return part{}, false
}

func (l *layout) header(h []byte) (name uint32, p part) {
	if l.wide {
		return l.order.Uint32(h), part{int64(l.order.Uint64(h[24:])), int64(l.order.Uint64(h[32:]))}
	}
	return l.order.Uint32(h), part{int64(l.order.Uint32(h[16:])), int64(l.order.Uint32(h[20:]))}
}
