package enforce_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/enforce"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// stormSize is how many programs one round starts.
const stormSize = 2000

// fullPolicy has 200 allowed executables, 100 network rules, and everything on.
func fullPolicy(programs ...string) policy.Run {
	run := only(programs...)
	for i := len(programs); i < 200; i++ {
		run.Exec.Allow = append(run.Exec.Allow, policy.PathRule{Pattern: fmt.Sprintf("/usr/bin/program-%d", i)})
	}
	run.Drift = policy.Switch{On: true, Effect: event.EffectBlock}
	run.Fileless = run.Drift
	run.Network = policy.Network{Effect: event.EffectBlock, Restrict: true}
	for i := range 100 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
		run.Network.Egress = append(run.Network.Egress, policy.PeerRule{Prefix: prefix, Ports: []policy.PortRange{{First: 443, Last: 443}}})
	}
	return run
}

// BenchmarkForkExec compares a storm of fork and exec in a container, with
// nothing loaded and under the full policy with the sensor reading, in turns
// on the same machine. Each b.N is one pair. It reports medians of the ratios
// and their spread, not a verdict.
func BenchmarkForkExec(b *testing.B) {
	opts := scope(b, nil)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Missing(b, "needs busybox: %v", err)
	}
	tiny := program(b)
	var wall, cpu []float64
	for range b.N {
		w0, c0 := storm(b, opts, busybox, tiny)
		k, stop := loadFull(b, opts, fullPolicy(busybox, tiny))
		w1, c1 := storm(b, opts, busybox, tiny)
		stop()
		if err := k.Unload(); err != nil {
			b.Fatal(err)
		}
		wall = append(wall, w1.Seconds()/w0.Seconds())
		cpu = append(cpu, c1.Seconds()/c0.Seconds())
	}
	report(b, "wall", wall)
	report(b, "cpu", cpu)
}

func report(b *testing.B, name string, ratios []float64) {
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], name+"-ratio")
	b.ReportMetric(ratios[len(ratios)/4], name+"-p25")
	b.ReportMetric(ratios[len(ratios)*3/4], name+"-p75")
}

func loadFull(b *testing.B, opts enforce.Options, run policy.Run) (*enforce.Kernel, func()) {
	k, err := enforce.Open(b.Context(), opts)
	if err != nil {
		b.Fatal(err)
	}
	if err := k.SetDefault(run); err != nil {
		b.Fatal(err)
	}
	if err := k.Watch("/etc/shadow", "/root/.ssh/*"); err != nil {
		b.Fatal(err)
	}
	s, err := sensor.New(k.Objects(), sensor.Settings{Rules: k})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, func(event.Event) {}) }()
	return k, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

func storm(b *testing.B, opts enforce.Options, busybox, tiny string) (wall, cpu time.Duration) {
	g := &guard{t: b, opts: opts, parent: opts.Under}
	script := "i=0; while [ $i -lt " + fmt.Sprint(stormSize) + " ]; do " + tiny + "; i=$((i+1)); done"
	c := g.box().command(busybox, "sh", "-c", script)
	var out strings.Builder
	c.Stdout = &out
	begin := time.Now()
	if err := c.Run(); err != nil || out.Len() != stormSize {
		b.Fatalf("storm: %v, %d of %d ran", err, out.Len(), stormSize)
	}
	return time.Since(begin), c.ProcessState.SystemTime() + c.ProcessState.UserTime()
}
