package confine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the calls that a Go program needs to compute on descriptors it
// has: memory, threads, time, signals to itself, reading and writing. None of
// them takes a path or makes a descriptor that leads anywhere; recvmsg takes
// the descriptors that the parent sends over a socket that it gave.
func allowed() []uint32 {
	calls := []uint32{
		unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_CLOSE, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_RECVMSG,
		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_MINCORE, unix.SYS_BRK,
		unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_MEMBARRIER, unix.SYS_RSEQ,
		unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_TGKILL, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_RESTART_SYSCALL,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_FCNTL,
		unix.SYS_GETRANDOM, unix.SYS_GETRLIMIT, unix.SYS_UNAME,
	}
	return append(calls, archCalls()...)
}

// Offsets in struct seccomp_data (linux/seccomp.h) and the classic BPF words
// (linux/bpf_common.h).
const (
	offCall = 0
	offArch = 4
	offArg0 = 16 // low half of the first argument, little endian

	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ifEq   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifSet  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	answer = unix.BPF_RET | unix.BPF_K

	actAllow = 0x7fff0000 // SECCOMP_RET_ALLOW
	actErrno = 0x00050000 // SECCOMP_RET_ERRNO
	actKill  = 0x80000000 // SECCOMP_RET_KILL_PROCESS
)

// program is the filter: a foreign architecture is killed, clone may make
// threads only, clone3 is answered as unknown (its flags lie in memory, so
// callers fall back to clone), the allowed calls pass, all else is EPERM.
func program() []unix.SockFilter {
	p := []unix.SockFilter{
		{Code: load, K: offArch},
		{Code: ifEq, K: auditArch, Jt: 1},
		{Code: answer, K: actKill},
		{Code: load, K: offCall},
		{Code: ifEq, K: unix.SYS_CLONE3, Jf: 1},
		{Code: answer, K: actErrno | uint32(unix.ENOSYS)},
		{Code: ifEq, K: unix.SYS_CLONE, Jf: 4},
		{Code: load, K: offArg0},
		{Code: ifSet, K: unix.CLONE_THREAD, Jf: 1},
		{Code: answer, K: actAllow},
		{Code: answer, K: actErrno | uint32(unix.EPERM)},
	}
	for _, call := range allowed() {
		p = append(p,
			unix.SockFilter{Code: ifEq, K: call, Jf: 1},
			unix.SockFilter{Code: answer, K: actAllow})
	}
	return append(p, unix.SockFilter{Code: answer, K: actErrno | uint32(unix.EPERM)})
}

// filter puts the program on every thread of the process.
func filter() error {
	p := program()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
