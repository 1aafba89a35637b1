// Command storm is what the fork benchmark runs in a container: rounds of a
// shell that starts a tiny static program over and over. It prints a line per
// round: nanoseconds on the clock, and of processor time of the shell and all
// its programs.
//
//	storm SETTLE SIZE ROUNDS
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("want SETTLE SIZE ROUNDS")
	}
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
		if err := storm(size); err != nil {
			return err
		}
	}
	return nil
}

func storm(size int) error {
	shell := exec.Command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/tiny; i=$((i+1)); done", size))
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
