// Command intel measures the intelligence bundle: building it from a folder of
// publishers' files, updating it when nothing changed, opening it, and looking
// packages up in a full-size one.
//
//	go run ./bench/intel                     # 320,000 generated advisories
//	go run ./bench/intel -source FOLDER      # a mirror's layout, served on loopback
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func main() {
	source := flag.String("source", "", "folder with a mirror's layout; empty: generated advisories")
	advisories := flag.Int("advisories", 320_000, "how many to generate")
	lookups := flag.Int("lookups", 1_000_000, "packages to look up")
	rounds := flag.Int("rounds", 3, "how often to measure")
	keep := flag.String("keep", "", "folder to keep the generated mirror and its bundle in; what is there is used again")
	flag.Parse()
	if err := run(*source, *keep, *advisories, *lookups, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(source, dir string, advisories, lookups, rounds int) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "bench-intel-*"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // a scratch folder
	}
	if _, err := intel.Verify(filepath.Join(dir, "data-0")); err == nil {
		return queries(filepath.Join(dir, "data-0"), lookups, rounds)
	}
	generated := source == ""
	if generated {
		source = filepath.Join(dir, "mirror")
		if err := inteltest.Large(source, advisories); err != nil {
			return err
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(source)))
	defer server.Close()
	if err := builds(dir, server.URL, rounds); err != nil || !generated {
		return err
	}
	return queries(filepath.Join(dir, "data-0"), lookups, rounds)
}

// builds measures whole builds, each into a folder of its own, and updates when
// nothing changed.
func builds(dir, source string, rounds int) error {
	var whole, again []measure
	for i := range rounds {
		options := intel.Options{Data: filepath.Join(dir, fmt.Sprintf("data-%d", i)), Source: source, Program: "bench", Ecosystems: []string{"all"}}
		for _, into := range []*[]measure{&whole, &again} {
			var m intel.Manifest
			took, err := timed(func() (err error) { m, err = intel.Build(context.Background(), options); return err })
			if err != nil {
				return err
			}
			*into = append(*into, took)
			if i == 0 && into == &whole {
				records := 0
				for _, s := range m.Sources {
					records += s.Records
				}
				fmt.Printf("bundle               %d records of %d sources, %.1f MB\n", records, len(m.Sources), float64(m.Size)/1e6)
			}
		}
	}
	show("build", whole)
	show("update, no change", again)
	return nil
}

// queries measures opening and lookups, on one core.
func queries(data string, lookups, rounds int) error {
	runtime.GOMAXPROCS(1)
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
	inventories := inventories(lookups)
	empty := heap()
	var opens, cold []measure
	var memory uint64
	findings := 0
	for range rounds {
		var bundle *intel.Bundle
		took, err := timed(func() (err error) { bundle, err = intel.Open(context.Background(), data); return err })
		if err != nil {
			return err
		}
		opens = append(opens, took)
		findings = 0
		took, err = timed(func() error {
			for _, pkgs := range inventories {
				found, _, _, err := bundle.Match(context.Background(), report.Distro{ID: "debian", Version: "12"}, pkgs)
				if err != nil {
					return err
				}
				findings += len(found)
			}
			return nil
		})
		if err != nil {
			return err
		}
		cold = append(cold, took)
		memory = heap() - empty
		if err := bundle.Close(); err != nil {
			return err
		}
	}
	show("open", opens)
	show(fmt.Sprintf("%d lookups", lookups), cold)
	fmt.Printf("                     %.0f lookups a second on one core (CPU time), %d findings\n", float64(lookups)/median(cold).cpu.Seconds(), findings)
	fmt.Printf("memory of the bundle %d MiB of heap after all lookups\n", memory>>20)
	return nil
}

// inventories are images of 500 packages as they are made in practice: a
// distribution's, and an application's, whose names repeat from image to image.
// Between a quarter and a half of the packages is named by advisories.
func inventories(lookups int) [][]event.Package {
	random := rand.New(rand.NewPCG(3, 4))
	mix := []struct {
		ecosystem string
		names     uint64
	}{{"Debian:12", 20_000}, {"Debian:12", 20_000}, {"Debian:12", 20_000}, {"npm", 300_000}, {"npm", 300_000}, {"npm", 300_000}, {"npm", 300_000}, {"npm", 300_000}, {"Go", 40_000}, {"PyPI", 90_000}}
	var draws []*rand.Zipf
	for _, m := range mix {
		draws = append(draws, rand.NewZipf(random, 1.1, 200, m.names))
	}
	var all [][]event.Package
	for range lookups / 500 {
		var pkgs []event.Package
		for i := range 500 {
			m := mix[i%len(mix)]
			base, _, _ := strings.Cut(m.ecosystem, ":")
			// Popular names are not the affected ones: spread them.
			n := int(draws[i%len(mix)].Uint64()*7919) % int(m.names)
			// A dozen versions of each are about; fixes are in 0 to 12.
			v := (n*31 + random.IntN(12)) % 997
			version := fmt.Sprintf("%d.%d.%d", 8+v%7, v%37, v%19)
			if base == "Debian" {
				version += "-1"
			}
			pkgs = append(pkgs, event.Package{Name: inteltest.Name(base, n), Version: version, Ecosystem: m.ecosystem})
		}
		all = append(all, pkgs)
	}
	return all
}

type measure struct{ wall, cpu time.Duration }

func timed(work func() error) (measure, error) {
	begin, used := time.Now(), cpuTime()
	err := work()
	return measure{time.Since(begin), cpuTime() - used}, err
}

// heap is what is in use now.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func median(list []measure) measure {
	byWall, byCPU := slices.Clone(list), slices.Clone(list)
	slices.SortFunc(byWall, func(a, b measure) int { return int(a.wall - b.wall) })
	slices.SortFunc(byCPU, func(a, b measure) int { return int(a.cpu - b.cpu) })
	return measure{byWall[len(list)/2].wall, byCPU[len(list)/2].cpu}
}

func show(what string, list []measure) {
	m := median(list)
	fmt.Printf("%-20s wall %8.3f s, CPU %8.3f s (median of %d)\n", what, m.wall.Seconds(), m.cpu.Seconds(), len(list))
}
