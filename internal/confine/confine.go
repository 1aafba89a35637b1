// Package confine runs a part of the own program as a child process that can
// compute and nothing else: hostile content is parsed there. The child gets
// open file descriptors and answers on its standard output; it has no
// privileges, no paths, no network, no other processes and bounded memory,
// CPU time and life.
//
// The layers, each of which would do alone for most attacks:
//
//   - the user nobody in user, mount, pid, network, IPC and UTS namespaces of
//     its own, without capabilities, no_new_privs ([Run] asks the kernel for it);
//   - Landlock with no path, no port and no scope allowed ([Enter]);
//   - a seccomp filter that allows what the Go runtime needs to compute, and
//     answers EPERM to everything else: open, socket, execve, ptrace, … ([Enter]);
//   - limits on address space, CPU time and descriptors ([Enter]), and a
//     deadline (the context given to Run).
//
// What a kernel or a surrounding container refuses is left out and named, in
// words for the report; the others still hold. One re-execution is enough:
// no_new_privs and the seccomp filter reach every thread by seccomp's TSYNC,
// Landlock by its own or by Go's AllThreadsSyscall, all before the first
// hostile byte is read.
package confine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Command is the first argument of a confined child. A program that uses this
// package calls its child function first of all when os.Args[1] is Command.
const Command = "confined-reader"

const (
	nobody      = 65534
	memoryLimit = "GOMEMLIMIT=96MiB" // soft: the collector's target; the hard limits are in Enter
	// oneArena is for builds with cgo: glibc otherwise reserves 64 MiB of the
	// child's address space for every few threads (mallopt(3), M_ARENA_MAX).
	oneArena  = "MALLOC_ARENA_MAX=1"
	maxStderr = 16 << 10
)

// Child is what to run.
type Child struct {
	Stdin  io.Reader
	Files  []*os.File // from descriptor 3 on
	Stdout io.Writer
}

// A CrashError is a child that ended without an answer of its own.
type CrashError struct {
	Reason string
}

func (e *CrashError) Error() string { return e.Reason }

// Run runs the child to its end and says which parts of the confinement this
// host refused. The context's end kills the child.
func Run(ctx context.Context, c Child) (missing []string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The child dies with the thread that made it (Pdeathsig), so that
		// thread must not be given back before.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		missing, err = run(ctx, c)
	}()
	<-done
	return missing, err
}

func run(ctx context.Context, c Child) ([]string, error) {
	var stderr bounded
	var refused error
	for _, r := range rungs(os.Geteuid(), os.Getegid()) {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Args = []string{os.Args[0], Command}
		cmd.Env = []string{memoryLimit, oneArena, "GOTRACEBACK=none"}
		cmd.Dir = "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, &stderr
		cmd.ExtraFiles = c.Files
		cmd.SysProcAttr = r.attr
		if err := cmd.Start(); err != nil {
			if ctx.Err() != nil {
				return nil, stopped(ctx)
			}
			if refused == nil {
				refused = err
			}
			if retry(err) {
				continue
			}
			return nil, fmt.Errorf("starting the confined child: %w", err)
		}
		return r.missing, explain(ctx, cmd.Wait(), stderr.buf.String())
	}
	return nil, fmt.Errorf("starting the confined child: %w", refused)
}

// retry: a host that refuses one way to start a child may allow a lesser one.
func retry(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// rung is one way to start a child, with what it lacks.
type rung struct {
	attr    *syscall.SysProcAttr
	missing []string
}

const (
	apart      = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	noUserNS   = "no user namespace"
	noOtherNS  = "no namespaces of its own"
	noIdentity = "it ran as the calling user"
)

// rungs lists the ways to start a child, the strongest first.
func rungs(uid, gid int) []rung {
	own := &syscall.SysProcAttr{
		Cloneflags:  apart | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: gid, Size: 1}},
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody, NoSetGroups: true},
		Pdeathsig:   syscall.SIGKILL,
	}
	plain := rung{&syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}, []string{noOtherNS, noIdentity}}
	if uid != 0 {
		return []rung{{own, nil}, plain}
	}
	own.UidMappings[0].HostID, own.GidMappings[0].HostID = nobody, nobody
	own.GidMappingsEnableSetgroups = true
	own.Credential.NoSetGroups = false
	drop := &syscall.Credential{Uid: nobody, Gid: nobody}
	return []rung{
		{own, nil},
		{&syscall.SysProcAttr{Cloneflags: apart, Credential: drop, Pdeathsig: syscall.SIGKILL}, []string{noUserNS}},
		{&syscall.SysProcAttr{Credential: drop, Pdeathsig: syscall.SIGKILL}, []string{noOtherNS}},
		plain,
	}
}

func stopped(ctx context.Context) error { return fmt.Errorf("stopped: %w", context.Cause(ctx)) }

// explain turns the end of a child into one sentence without a stack trace.
func explain(ctx context.Context, err error, stderr string) error {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	switch {
	case strings.Contains(stderr, "out of memory"), strings.Contains(stderr, "cannot allocate memory"), strings.Contains(stderr, "failed to allocate"):
		return &CrashError{"the confined reader needed more memory than it may have"}
	case status.Signaled() && (status.Signal() == syscall.SIGXCPU || status.Signal() == syscall.SIGKILL):
		return &CrashError{"the confined reader was killed: it needed more CPU time or memory than it may have"}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	return &CrashError{fmt.Sprintf("the confined reader crashed (%v: %q); please report it", exit, first)}
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxStderr - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
