package sensor

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Each record of a ring has a header of eight bytes before it, of which the first
// four are its length and two bits (bpf_ringbuf_hdr and BPF_RINGBUF_BUSY_BIT,
// kernel/bpf/ringbuf.c), and begins at a multiple of eight.
const (
	ringHeader  = 8
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
)

// ring reads a kernel ring in place. A record stays in it until passed says that
// it was dealt with: the ring is pinned, so what a reader was killed over is the
// first that the next one reads. (The library's reader lets go of a record
// before it hands it on.) One goroutine reads; waiting and interrupt are safe for
// concurrent use. Nothing is to be used after close.
type ring struct {
	fd       int
	alarm    int // an eventfd
	consumer *atomic.Uint64
	producer *atomic.Uint64
	data     []byte // all of it twice, so that no record is cut in two
	mask     uint64
	pages    [2][]byte
}

// openRing maps a ring as kernel/bpf/ringbuf.c lays it out: a page with the
// reader's position, one with the writers', and the records.
func openRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the reader's position: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the records: %w", err), unix.Munmap(consumer))
	}
	alarm, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Munmap(consumer), unix.Munmap(producer))
	}
	return &ring{
		fd: m.FD(), alarm: alarm,
		consumer: (*atomic.Uint64)(unsafe.Pointer(&consumer[0])),
		producer: (*atomic.Uint64)(unsafe.Pointer(&producer[0])),
		data:     producer[page:], mask: uint64(size - 1), pages: [2][]byte{consumer, producer},
	}, nil
}

// next is the first record that was not passed yet, and where it ends; nil when
// there is none, or its writer is not done. The record lies in the ring: it
// changes after it was passed.
func (r *ring) next() (record []byte, end uint64, err error) {
	for at := r.consumer.Load(); ; r.passed(at) {
		left := r.producer.Load() - at
		if left == 0 {
			return nil, 0, nil
		}
		if left < ringHeader || left > r.mask+1 {
			return nil, 0, fmt.Errorf("its positions are %d bytes apart", left)
		}
		start := at & r.mask
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start])))
		if header&ringBusy != 0 {
			return nil, 0, nil
		}
		length := uint64(header &^ ringDiscard)
		at += ringHeader + (length+7)&^7
		if ringHeader+length > left {
			return nil, 0, fmt.Errorf("a record of %d bytes where %d are left", length, left)
		}
		if header&ringDiscard == 0 {
			return r.data[start+ringHeader:][:length:length], at, nil
		}
	}
}

// passed lets go of everything before a position.
func (r *ring) passed(end uint64) { r.consumer.Store(end) }

// waiting says whether there are records that were not passed.
func (r *ring) waiting() bool { return r.consumer.Load() != r.producer.Load() }

// wait returns when a writer woke the reader, somebody interrupted it, or the
// patience is over; without patience (0) that never is.
func (r *ring) wait(patience time.Duration) error {
	within := -1
	if patience > 0 {
		within = int(patience.Milliseconds())
	}
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}, {Fd: int32(r.alarm), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, within); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait: %w", err)
	}
	if fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(r.alarm, count[:]) // sets it back
	}
	return nil
}

// interrupt ends a wait, or else the next one.
func (r *ring) interrupt() {
	_, _ = unix.Write(r.alarm, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // in any byte order more than none
}

func (r *ring) close() error {
	return errors.Join(unix.Close(r.alarm), unix.Munmap(r.pages[0]), unix.Munmap(r.pages[1]))
}
