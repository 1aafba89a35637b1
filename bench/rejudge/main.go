// Command rejudge measures the whole way from a new intelligence bundle on disk
// to every stored image being judged by it: opening the bundle, reading the
// inventories, matching, judging, writing verdicts and their events.
//
//	go run ./bench/rejudge                # 100,000 images, 320,000 advisories
//	go run ./bench/rejudge -keep FOLDER   # what is there is used again
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
)

func main() {
	images := flag.Int("images", 100_000, "how many images")
	advisories := flag.Int("advisories", 320_000, "how many advisories")
	rounds := flag.Int("rounds", 3, "how many days of new advisories")
	keep := flag.String("keep", "", "folder to keep everything in; what is there is used again")
	publish := flag.Bool("publish", false, "only write a day's advisories into -keep's mirror, and the bundle that holds them")
	flag.Parse()
	if *publish {
		if err := publishDay(*keep, *advisories); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := run(*keep, *images, *advisories, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// policies judge by severity, with an exception for one vulnerability: what most
// people write.
const policies = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: images}
mode: enforce
image:
  maxSeverity: {level: critical, fixAvailable: medium}
exceptions:
  - match: finding.id == "CVE-2020-20010"
    reason: not reachable
    expires: 2036-01-01
`

func run(dir string, images, advisories, rounds int) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "bench-rejudge-*"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // a scratch folder
	}
	news := newPublisher(dir, advisories)
	if err := news.begin(); err != nil {
		return err
	}
	judged := &judgedLog{all: make(chan time.Duration, 16)}
	s, err := server.Open(context.Background(), server.Options{Dir: filepath.Join(dir, "server"), Listen: "127.0.0.1:0", BusListen: "127.0.0.1:0",
		Intelligence: news.data, Policies: []byte(policies), Log: slog.New(judged)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := fill(s.Store(), images); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(ctx) })
	group.Go(func() error {
		defer stop()
		if path := os.Getenv("BENCH_PROFILE"); path != "" {
			file, err := os.Create(path)
			if err != nil {
				return err
			}
			defer func() { pprof.StopCPUProfile(); _ = file.Close() }()
			if err := pprof.StartCPUProfile(file); err != nil {
				return err
			}
		}
		return measure(ctx, s.Store(), news, judged, rounds)
	})
	return group.Wait()
}

func measure(ctx context.Context, db *store.Store, news *publisher, judged *judgedLog, rounds int) error {
	if err := describe(ctx, db); err != nil {
		return err
	}
	if known, err := db.MatchedBy(ctx); err != nil {
		return err
	} else if m, err := intel.Verify(news.data); err != nil {
		return err
	} else if known != m.Version { // or what an earlier run left
		took, err := judged.next(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("the bundle at hand   %8.2f s\n", took.Seconds())
	}
	var day []time.Duration
	for range rounds {
		before, err := countEvents(ctx, db)
		if err != nil {
			return err
		}
		if err := news.publish(ctx); err != nil {
			return err
		}
		debug.FreeOSMemory()
		if err := resetPeak(); err != nil {
			return err
		}
		used := cpuTime()
		if err := news.handOver(); err != nil {
			return err
		}
		took, err := judged.next(ctx)
		if err != nil {
			return err
		}
		used = cpuTime() - used
		peak, err := peakMemory()
		if err != nil {
			return err
		}
		after, err := countEvents(ctx, db)
		if err != nil {
			return err
		}
		fmt.Printf("a day's news         %8.2f s, CPU %.2f s, %s judged, %d verdicts turned, %d MiB at the peak\n", took.Seconds(), used.Seconds(), judged.images, after-before, peak>>20)
		day = append(day, took)
	}
	fmt.Printf("median               %8.2f s (aim: 10 s for 100,000 images on 2 cores)\n", median(day).Seconds())
	return nil
}

func describe(ctx context.Context, db *store.Store) error {
	count, err := db.CountImages(ctx)
	if err != nil {
		return err
	}
	packages, err := db.StockSize(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("stored               %d images, %d distinct packages\n", count.All, packages)
	return nil
}

// countEvents counts changes of verdicts.
func countEvents(ctx context.Context, db *store.Store) (n uint64, err error) {
	newest, err := db.Events(ctx, store.EventFilter{Kind: event.KindImage, Limit: 1})
	if err == nil && len(newest) > 0 {
		n = newest[0].ID
	}
	return n, err
}
