// Command attack is the attack suite: what intruders do in containers, done for
// real, each attack with the outcome that is expected of this host's tier, the
// absence of harm seen by a witness that Breakwater does not control (a file, a
// listener), and the incident read back through the API.
//
// It runs an engine of its own and leaves nothing behind. With --enforcement=off
// whatever was to be stopped must do its harm, and the suite fails: that shows
// that its witnesses can see harm.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv/stage"
)

func main() {
	enforcement := flag.String("enforcement", "on", "on, or off: only record; the suite then fails")
	binary := flag.String("breakwater", "bin/breakwater", "the binary to attack")
	short := flag.Bool("short", false, "only one attack of each way of being stopped or told")
	only := flag.String("only", "", "only the attacks of these ids, with commas between")
	flag.Parse()
	if *enforcement != "on" && *enforcement != "off" {
		fmt.Fprintf(os.Stderr, "attack: --enforcement=%s: want on or off\n", *enforcement)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, *binary, *enforcement == "off", chosen(*short, *only))
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(3)
	case failed > 0:
		fmt.Printf("\n%d attacks did not end as they should.\n", failed)
		os.Exit(1)
	}
	fmt.Println("\nEvery attack ended as it should.")
}

// suite is the attacks while they run.
type suite struct {
	*stage.Stage
	console   *stage.Console
	tier      int
	listeners map[string]*stage.Listener
	ledger    *ledger
	disk      string // a node for a block device of the host
}

// atOnce is how many attacks run side by side: most of their time they wait.
const atOnce = 6

func run(ctx context.Context, binary string, observe bool, list []attack) (failed int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("the attacks need an engine and eBPF programs: run 'sudo make attack'")
	}
	if len(list) == 0 {
		return 0, errors.New("no such attack")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return 0, err
	}
	set, err := stage.New(ctx, "attack", binary)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	s := &suite{Stage: set}
	if err := s.prepare(ctx, observe); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ledger = newLedger()
	go s.ledger.keep(ctx, s.console)
	began := time.Now()
	rows := s.all(ctx, list)
	fmt.Printf("%d attacks on tier %d in %.0f s\n\n", len(rows), s.tier, time.Since(began).Seconds())
	return table(rows), ctx.Err()
}

func (s *suite) prepare(ctx context.Context, observe bool) error {
	if err := s.buildImage(ctx); err != nil {
		return err
	}
	policies, err := os.ReadFile("attack/policies.yaml")
	if err != nil {
		return err
	}
	if s.console, _, err = s.Guard(ctx, stage.Settings{Observe: observe}); err != nil {
		return err
	}
	if err := s.console.Apply(ctx, policies); err != nil {
		return err
	}
	status, err := s.console.Host(ctx)
	if err != nil {
		return err
	}
	s.tier = status.Doctor.Tier
	if s.tier != 1 && s.tier != 2 {
		return fmt.Errorf("this host is of tier %d: nothing is enforced here; breakwater doctor says why", s.tier)
	}
	if err := s.makeDisk(); err != nil {
		return err
	}
	return s.startBoxes(ctx)
}

func (s *suite) all(ctx context.Context, list []attack) []row {
	rows := make([]row, len(list))
	next := make(chan int)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for i := range next {
				rows[i] = s.try(ctx, list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	group.Wait()
	return rows
}
