//go:build linux

package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// patience bounds one act: a canary that does not answer by then is taken for
// stopped. It is generous because a busy machine must not look like a refusal.
const patience = 20 * time.Second

// subject is a running canary, seen from the prober.
type subject struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // closed when the canary's output ends
	pipe  *os.File
}

// errKilled: the canary was ended by SIGKILL before its first write.
var errKilled = errors.New("killed before its first write")

// errRan: the canary's act replaced its program, and that program wrote.
var errRan = errors.New("the program ran")

// newSubject starts this binary again, whatever lies at its path by now, with
// args.
func newSubject(args []string) (*subject, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{os.Args[0]}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		read.Close()
		return nil, fmt.Errorf("start the canary (%s): %w", strings.Join(args, " "), err)
	}
	s := &subject{cmd: cmd, in: in, pipe: read, lines: make(chan string, 4)}
	go s.read()
	return s, nil
}

// read owns the canary's output. A canary says a line or two per act, and its
// prober takes each before the next act: the channel never fills.
func (s *subject) read() {
	defer close(s.lines)
	scan := bufio.NewScanner(s.pipe)
	for scan.Scan() {
		s.lines <- scan.Text()
	}
}

func (s *subject) pid() int { return s.cmd.Process.Pid }

// tell sends an act without waiting for the answer.
func (s *subject) tell(a act) error { return json.NewEncoder(s.in).Encode(a) }

// do has the act done and returns its errno, 0 when it was let through. For an
// act that replaces the program it returns errRan or errKilled.
func (s *subject) do(ctx context.Context, a act) (syscall.Errno, error) {
	if err := s.tell(a); err != nil {
		return 0, fmt.Errorf("canary: %w", err)
	}
	return s.hear(ctx, patience)
}

var errSilent = errors.New("the canary does not answer")

// hear waits for the answer to the last act.
func (s *subject) hear(ctx context.Context, limit time.Duration) (syscall.Errno, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-timer.C:
		return 0, errSilent
	case line, open := <-s.lines:
		if !open {
			return 0, s.death()
		}
		return interpret(line)
	}
}

func interpret(line string) (syscall.Errno, error) {
	if line+"\n" == ran {
		return 0, errRan
	}
	var a answer
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return 0, fmt.Errorf("canary said %q", line)
	}
	if a.Error != "" {
		return 0, errors.New(a.Error)
	}
	return syscall.Errno(a.Errno), nil
}

// death says how a canary ended whose output closed.
func (s *subject) death() error {
	err := s.cmd.Wait()
	if s.cmd.ProcessState != nil {
		if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return errKilled
		}
	}
	return fmt.Errorf("the canary ended: %v", err)
}

// close ends the canary, whatever state it is in.
func (s *subject) close() {
	s.in.Close()
	if s.cmd.ProcessState == nil {
		// Kill works on a frozen process too, once its cgroup is thawed.
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.pipe.Close()
}
