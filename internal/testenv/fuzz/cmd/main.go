// Command cmd runs every fuzz target for a short time: see package fuzz.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/breakwater-sec/breakwater/internal/testenv/fuzz"
)

func main() {
	budget := flag.Duration("budget", time.Minute, "for building and running all targets")
	least := flag.Duration("least", 300*time.Millisecond, "for each target, in any case")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := fuzz.Run(ctx, fuzz.Options{Dir: ".", Budget: *budget, Least: *least, Out: os.Stdout}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}
