// Command storm is what the fork benchmark runs in a container: rounds of a
// shell that starts a tiny static program over and over, or of opening and
// closing the same files. It prints a line per round: nanoseconds on the clock,
// and of processor time.
//
//	storm exec|open SETTLE SIZE ROUNDS [NEW]
//
// NEW is how many of a hundred programs get an argument that none had before.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	storms := map[string]func(int, string) error{"exec": programs, "open": openings}
	if len(args) < 4 || len(args) > 5 || storms[args[0]] == nil {
		return errors.New("want exec or open, SETTLE SIZE ROUNDS [NEW]")
	}
	argument := ""
	if len(args) == 5 && args[4] != "0" {
		argument = fmt.Sprintf("$((round + i * %s / 100))", args[4])
	}
	storm, args := storms[args[0]], args[1:]
	settle, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	time.Sleep(settle) // what the container's own start set off is over
	for range rounds {
		if err := storm(size, argument); err != nil {
			return err
		}
	}
	return nil
}

// openings opens and closes the same files, as many times as asked.
func openings(size int, _ string) error {
	files := []string{"/etc/passwd", "/etc/group", "/bin/sh", "/bin/storm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/bin/tiny"}
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		return err
	}
	begin := time.Now()
	for i := range size {
		fd, err := syscall.Open(files[i%len(files)], syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", files[i%len(files)], err)
		}
		if err := syscall.Close(fd); err != nil {
			return err
		}
	}
	took := time.Since(begin)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		return err
	}
	spent := func(r syscall.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
	fmt.Println(took.Nanoseconds(), spent(after)-spent(before))
	return nil
}

// programs starts as many; argument is the shell's word for theirs.
func programs(size int, argument string) error {
	shell := exec.Command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/tiny %s; i=$((i+1)); done", size, argument))
	// In the environment: the shell itself is the same in each round.
	shell.Env = append(os.Environ(), fmt.Sprintf("round=%d", time.Now().UnixNano()))
	var out bytes.Buffer
	shell.Stdout = &out
	begin := time.Now()
	if err := shell.Run(); err != nil {
		return err
	}
	took := time.Since(begin)
	if out.Len() != size { // each program that ran wrote one byte
		return fmt.Errorf("%d of %d programs ran", out.Len(), size)
	}
	cpu := shell.ProcessState.SystemTime() + shell.ProcessState.UserTime()
	fmt.Println(took.Nanoseconds(), cpu.Nanoseconds())
	return nil
}
