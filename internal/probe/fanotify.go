//go:build linux

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The two permission events.
const (
	fanOpenPerm     = unix.FAN_OPEN_PERM
	fanOpenExecPerm = unix.FAN_OPEN_EXEC_PERM
)

// fanotifyTrial refuses the canary inside what it asks about the one file
// path; everybody else's requests for that file are granted.
func fanotifyTrial(a act, path string, mask uint64, p *prober) trial {
	name := "fanotify FAN_OPEN_PERM"
	if mask == fanOpenExecPerm {
		name = "fanotify FAN_OPEN_EXEC_PERM"
	}
	return trial{name: name, act: a, attach: func() (io.Closer, error) {
		return newJudge(path, mask, p.in.pid())
	}}
}

// judge answers a fanotify group's permission events in a goroutine of its own
// until Close. Closing the group grants whatever still waits.
type judge struct {
	group *os.File
	done  chan struct{}
}

func newJudge(path string, mask uint64, refused int) (*judge, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	group := os.NewFile(uintptr(fd), "fanotify")
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, mask, unix.AT_FDCWD, path); err != nil {
		group.Close()
		return nil, fmt.Errorf("fanotify_mark: %w", err)
	}
	j := &judge{group: group, done: make(chan struct{})}
	go j.run(refused)
	return j, nil
}

func (j *judge) Close() error {
	err := j.group.Close()
	<-j.done
	return err
}

func (j *judge) run(refused int) {
	defer close(j.done)
	buf := make([]byte, 4096)
	for {
		n, err := j.group.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= int(unsafe.Sizeof(unix.FanotifyEventMetadata{})); {
			m := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
			if m.Event_len < uint32(unsafe.Sizeof(*m)) || int(m.Event_len) > len(b) {
				return
			}
			if err := j.answer(m, refused); err != nil {
				return
			}
			b = b[m.Event_len:]
		}
	}
}

// answer writes a struct fanotify_response: the event's descriptor, a verdict.
func (j *judge) answer(m *unix.FanotifyEventMetadata, refused int) error {
	if m.Fd < 0 {
		return nil
	}
	verdict := uint32(unix.FAN_ALLOW)
	if int(m.Pid) == refused {
		verdict = unix.FAN_DENY
	}
	response := binary.NativeEndian.AppendUint32(nil, uint32(m.Fd))
	_, err := j.group.Write(binary.NativeEndian.AppendUint32(response, verdict))
	return errors.Join(err, unix.Close(int(m.Fd)))
}
