package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
)

// What one day brings: about as many advisories as the publishers wrote a day
// in 2026, and a vulnerability of packages that nearly every image has.
const (
	newInDebian = 150
	newInOthers = 200 // in each ecosystem
)

// publisher serves a mirror of generated advisories, to which a day adds more.
// Advisories are written and bundles built in a process of their own: no server
// does that, and what it takes of memory is not to be measured.
type publisher struct {
	folder, mirror, data string
	workshop             string // where bundles are built
	advisories           int
	day                  int
	random               *rand.Rand
}

func newPublisher(folder string, advisories int) *publisher {
	data := filepath.Join(folder, "data")
	return &publisher{folder: folder, mirror: filepath.Join(folder, "mirror"), data: data, workshop: data + "-build", advisories: advisories,
		random: rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano()))), day: int(time.Now().Unix() % 100_000)}
}

// begin sees to it that there is a bundle.
func (p *publisher) begin() error {
	if exists(p.data) {
		return nil
	}
	if err := p.publish(context.Background()); err != nil {
		return err
	}
	return os.CopyFS(p.data, os.DirFS(p.workshop))
}

// publish runs publishDay.
func (p *publisher) publish(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-publish", "-keep", p.folder, "-advisories", strconv.Itoa(p.advisories))
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// exists says whether there is a bundle.
func exists(data string) bool {
	_, err := intel.Verify(data)
	return err == nil
}

// handOver puts the newest bundle where the server looks, all at once: building
// one is not what is measured.
func (p *publisher) handOver() error {
	from, to := filepath.Join(p.workshop, "intel"), filepath.Join(p.data, "intel")
	name, err := os.Readlink(filepath.Join(from, "current"))
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
		return err
	}
	if err := os.Symlink(name, filepath.Join(to, "current.new")); err != nil {
		return err
	}
	return os.Rename(filepath.Join(to, "current.new"), filepath.Join(to, "current"))
}

// publishDay writes a day's news, and the bundle that holds them.
func publishDay(folder string, advisories int) error {
	p := newPublisher(folder, advisories)
	if _, err := os.Stat(p.mirror); errors.Is(err, os.ErrNotExist) {
		if err := inteltest.Large(p.mirror, advisories); err != nil {
			return err
		}
	}
	if err := p.debian(); err != nil {
		return err
	}
	for _, ecosystem := range []string{"npm", "PyPI", "Go", "Maven"} {
		if err := p.export(ecosystem); err != nil {
			return err
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(p.mirror)))
	defer server.Close()
	_, err := intel.Build(context.Background(), intel.Options{Data: p.workshop, Source: server.URL, Program: "bench", Ecosystems: []string{"all"}})
	return err
}

func (p *publisher) debian() error {
	path := filepath.Join(p.mirror, "debian", "tracker.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for i := range newInDebian {
		n := p.random.IntN(9000)
		if i < 5 { // in the base
			n = inBase(p.random.IntN(basePackages))
		}
		name := inteltest.Name("Debian", n)
		if all[name] == nil {
			all[name] = map[string]any{}
		}
		all[name][fmt.Sprintf("CVE-2026-%d%03d", p.day, i)] = map[string]any{"description": "A new flaw", "releases": map[string]any{
			"bookworm": map[string]any{"status": "resolved", "fixed_version": "99.0-1", "urgency": "not yet assigned"}}}
	}
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

func (p *publisher) export(ecosystem string) (err error) {
	path := filepath.Join(p.mirror, "osv", ecosystem, "all.zip")
	old, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }() // only read
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	out := zip.NewWriter(file)
	for _, f := range old.File {
		if err := out.Copy(f); err != nil {
			return err
		}
	}
	for i := range newInOthers {
		id := fmt.Sprintf("GHSA-new-%s-%d-%d", strings.ToLower(ecosystem), p.day, i)
		entry, err := out.Create(id + ".json")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(entry, `{"id":%q,"modified":"2026-11-28T00:00:00Z","summary":"A new flaw","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
			"affected":[{"package":{"ecosystem":%q,"name":%q},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"99.0.0"}]}]}]}`,
			id, ecosystem, inteltest.Name(ecosystem, p.random.IntN(20_000))); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), file.Close(), os.Rename(path+".new", path))
}

// judgedLog hears the server say that it judged everything.
type judgedLog struct {
	all    chan time.Duration
	images string
}

func (l *judgedLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *judgedLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *judgedLog) WithGroup(string) slog.Handler            { return l }

func (l *judgedLog) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		fmt.Fprintln(os.Stderr, r.Message)
		r.Attrs(func(a slog.Attr) bool { fmt.Fprintln(os.Stderr, "  ", a); return true })
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "images":
			l.images = a.Value.String()
		case "took":
			l.all <- a.Value.Duration()
		}
		return true
	})
	return nil
}

func (l *judgedLog) next(ctx context.Context) (time.Duration, error) {
	select {
	case took := <-l.all:
		return took, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// cpuTime is what this process used.
func cpuTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// resetPeak and peakMemory read this process's resident memory, proc(5).
func resetPeak() error { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

func peakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
