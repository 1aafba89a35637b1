package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/agent"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/journal"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/probe"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

// hostFlags say what an agent guards; up and agent share them.
type hostFlags struct {
	engines []string
	pin     string
	under   string
	name    string
	observe bool
	malware string

	eventMiB int64
}

func (f *hostFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.engines, "engine", []string{engineSocket}, "`sockets` of the Docker engines of this host")
	cmd.Flags().StringVar(&f.pin, "pin", sensor.DefaultPin, "`folder` of a BPF file system that enforcement is pinned in")
	cmd.Flags().StringVar(&f.under, "under", "", "guard only the containers below this cgroup `folder` (default: all of this host)")
	cmd.Flags().StringVar(&f.name, "host-name", "", "this host's `name` in the console (default: its host name)")
	cmd.Flags().Int64Var(&f.eventMiB, "events-size", journal.DefaultBytes>>20, "`MiB` on disk for events to look back at; the oldest go")
	cmd.Flags().BoolVar(&f.observe, "observe", false, "stop nothing, not even what is always malicious; record only")
	cmd.Flags().StringVar(&f.malware, "malware", "", "`address` of a ClamAV daemon to show the files of images to: clamd://HOST:PORT or clamd:///PATH/TO/SOCKET")
}

func (f *hostFlags) host() (string, error) {
	if f.name != "" {
		return f.name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("this host has no name: %w: give it one with --host-name", err)
	}
	return name, nil
}

// hostAgent is an agent with everything it holds of its host.
type hostAgent struct {
	*agent.Agent
	doctor event.Doctor
	kernel *enforce.Kernel // nil: it could not be loaded
	bus    *bus.Agent
	look   probe.Options
	// unguarded is why there is no kernel part; "": there is one.
	unguarded string
}

// Run runs the agent until ctx ends.
func (h *hostAgent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.Agent.Run(ctx) })
	group.Go(func() error { h.keepProbed(ctx); return nil })
	return group.Wait()
}

// probeEvery is how often the host's engines are looked at.
const probeEvery = 20 * time.Second

// keepProbed probes the host again when an engine came, went or got a gate:
// what the host can do about starts depends on it.
func (h *hostAgent) keepProbed(ctx context.Context) {
	known := h.doctor.Engines
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := probe.Engines(ctx, h.look)
		if ctx.Err() != nil || slices.Equal(now, known) {
			continue
		}
		if d := probe.Run(ctx, h.look); ctx.Err() == nil {
			known = d.Engines
			h.Probed(d)
		}
	}
}

func (h *hostAgent) close() error {
	h.bus.Close()
	if h.kernel == nil {
		return nil
	}
	return h.kernel.Close()
}

// openAgent probes the host, loads the kernel part and makes the agent that an
// enrolment stands for.
func openAgent(ctx context.Context, f hostFlags, data, host string, seed []byte, enrolled api.EnrolResponse, log *slog.Logger) (*hostAgent, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("guarding a host needs root: run it with sudo, or run `breakwater server` alone")
	}
	if err := checkClamd(ctx, f.malware); err != nil {
		return nil, err
	}
	if f.eventMiB < 1 || f.eventMiB > 1<<20 {
		return nil, fmt.Errorf("--events-size=%d: want 1 to %d MiB", f.eventMiB, 1<<20)
	}
	rules, err := detect.Load(content.Detections())
	if err != nil {
		return nil, err
	}
	own, err := sensor.Spare(f.pin)
	if err != nil {
		return nil, err
	}
	look := probeOptions()
	look.Docker = socketPaths(f.engines)
	doctor := probe.Run(ctx, look)
	options := agent.Options{
		ID: enrolled.Agent, Host: host, Version: version, Data: data, Intel: data,
		Sockets: socketPaths(f.engines), Malware: f.malware, Observe: f.observe, Own: own,
		Doctor: doctor, Rules: rules, Log: log, EventBytes: f.eventMiB << 20,
	}
	kernel, err := loadKernel(ctx, f, &options)
	if err != nil {
		return nil, err
	}
	h := &hostAgent{doctor: doctor, kernel: kernel, look: look, unguarded: options.Unguarded}
	h.bus, err = bus.Connect(ctx, bus.AgentOptions{URL: enrolled.BusURL, CA: enrolled.BusCA, NKeySeed: bytes.Clone(seed), Agent: enrolled.Agent})
	if err != nil && kernel != nil {
		err = errors.Join(err, kernel.Close())
	}
	if err != nil {
		return nil, err
	}
	options.Uplink, options.Questions = h.bus, h.bus
	if h.Agent, err = agent.New(options); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// loadKernel loads the kernel part into the options. On a host that can have
// none the agent goes on without: the gate and images need no kernel.
func loadKernel(ctx context.Context, f hostFlags, o *agent.Options) (*enforce.Kernel, error) {
	kernel, err := enforce.Open(ctx, enforce.Options{Pin: f.pin, Under: f.under, Tier1: o.Doctor.Tier == 1, ByReturn: o.Doctor.Hook == "fmod_ret"})
	switch {
	case err != nil && o.Doctor.Tier == 0 && !errors.Is(err, sensor.ErrBusy):
		o.Kernel, o.Sensor, o.Fresh, o.Unguarded = agent.Unguarded{}, agent.Unguarded{}, true, err.Error()
		o.Log.Error("nothing is enforced in this host's kernel; the gate and the scanning of images go on", "error", err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w (`breakwater doctor` says what this host can do)", err)
	}
	sense, err := sensor.New(kernel.Objects(), sensor.Settings{Host: o.Host, Rules: kernel, Watched: o.Rules.Watches, Journal: filepath.Join(o.Data, "asked")})
	if err != nil {
		return nil, errors.Join(err, kernel.Close())
	}
	o.Kernel, o.Sensor, o.Fresh = kernel, sense, kernel.Fresh()
	return kernel, nil
}

// checkClamd refuses what cannot be the address of a ClamAV daemon; one that is
// away is told of later.
func checkClamd(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	if _, err := malware.OpenClamd(ctx, address); errors.Is(err, malware.ErrAddress) {
		return fmt.Errorf("--malware: %w", err)
	}
	return nil
}

func socketPaths(engines []string) []string {
	out := make([]string, 0, len(engines))
	for _, e := range engines {
		out = append(out, strings.TrimPrefix(e, "unix://"))
	}
	return out
}

// agentSeed is the agent's own key, made on first use; it never leaves the host.
func agentSeed(data string) (seed []byte, public string, err error) {
	path := filepath.Join(data, "keys", "agent.seed")
	seed, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed, err = newSeed(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("agent key: %w", err)
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return nil, "", fmt.Errorf("agent key %s: %w: remove the file and enrol the agent again", path, err)
	}
	defer pair.Wipe()
	public, err = pair.PublicKey()
	return bytes.TrimSpace(seed), public, err
}

func newSeed(path string) ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	raw, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	seed := bytes.Clone(raw) // raw is the pair's own memory, which Wipe clears
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return seed, writeNew(path, seed, 0o600)
}

// writeNew writes a file that must not exist, whole or not at all.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// trustPolicyKey keeps the key that policy bundles must be signed with, where
// agent and gate look for it.
func trustPolicyKey(data string, key []byte) error {
	path := filepath.Join(data, api.FilePolicyKey)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	text := []byte(hex.EncodeToString(key) + "\n")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := durable.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("policy key: %w", err)
	}
	return nil
}
