package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// The bounds of one response: a tree that is larger, or that does not come to rest,
// is ended as far as it was found, and the response says so.
const (
	maxLineage = 4096
	maxPasses  = 64
)

// lineage is a process with those that it started, each pinned by a pidfd. They
// are stopped as they are found, so that none of them starts another one behind
// the reader's back: the kernel lets no fork of a process end to which a signal
// was sent before. What a stopped parent has started is all there when it is read.
type lineage struct {
	container string
	pids      []int
	fds       []int
	known     map[int]bool
}

// killLineage ends a process and what it started, and says how many others that
// were. Those that have another parent by now, because theirs had ended before,
// are not found; what runs in a container of its own, outside of this one, is left alone.
func killLineage(p *event.Process, container string) (others int, err error) {
	fd, err := openProcess(p)
	if err != nil || fd < 0 {
		return 0, err
	}
	l := &lineage{container: container, known: map[int]bool{}}
	defer l.close()
	l.take(p.PID, fd)
	incomplete := l.gather()
	for i, fd := range l.fds {
		if e := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("process %d: %w", l.pids[i], e))
		}
	}
	return len(l.fds) - 1, errors.Join(err, incomplete)
}

// gather takes up descendants until a pass over all of them finds none that is new.
func (l *lineage) gather() error {
	if l.container == "" {
		return nil // of the host's own, only the one that was meant
	}
	for range maxPasses {
		before := len(l.pids)
		for i := 0; i < len(l.pids); i++ { // it grows meanwhile
			if err := l.childrenOf(l.pids[i]); err != nil {
				return err
			}
		}
		if len(l.pids) == before {
			return nil
		}
	}
	return fmt.Errorf("what it started keeps starting others; %d were ended", len(l.pids)-1)
}

// childrenOf takes up the children of all threads of a process that is taken already.
func (l *lineage) childrenOf(pid int) error {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/children", pid))
	if err != nil {
		return err
	}
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended; its children have another parent, which is looked at too
		}
		for _, field := range strings.Fields(string(raw)) {
			child, err := strconv.Atoi(field)
			if err != nil || child <= 1 || l.known[child] {
				continue
			}
			if len(l.pids) >= maxLineage {
				return fmt.Errorf("it started more processes than one response ends; %d were ended", len(l.pids)-1)
			}
			l.adopt(child)
		}
	}
	return nil
}

// adopt pins a child and takes it, if it still is the child of one of them then.
func (l *lineage) adopt(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it ended
	}
	stat, err := statOf(pid)
	if err != nil || !l.known[stat.parent] || inAnother(pid, l.container) {
		unix.Close(fd)
		return
	}
	l.take(pid, fd)
}

func (l *lineage) take(pid, fd int) {
	l.known[pid] = true
	l.pids, l.fds = append(l.pids, pid), append(l.fds, fd)
	_ = unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0) // one that ended starts nothing any more
}

func (l *lineage) close() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
}

// openProcess pins exactly the process of an event: its start is compared after
// the pidfd was opened, so a number that another one has by now is left alone. fd
// is -1 where it is gone, which is what was wanted.
func openProcess(p *event.Process) (fd int, err error) {
	if p == nil || p.PID <= 1 {
		return -1, errors.New("the event names no process")
	}
	fd, err = unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, syscall.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", p.PID, err)
	}
	same, err := sameProcess(p)
	if err != nil || !same {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// containerGroup finds the ids in the names that engines give to containers'
// cgroups: 64 hexadecimal digits, alone or between a prefix and ".scope".
var containerGroup = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`/(?:docker-|libpod-|cri-containerd-|crio-)?([0-9a-f]{64})(?:\.scope)?(?:/|\n|$)`)
})

// inAnother says whether a process stands in the cgroup of another container, and
// not below that of its own. One that moved anywhere else is still its parents' kin.
func inAnother(pid int, container string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && !strings.Contains(string(raw), container) && containerGroup().Match(raw)
}
