package resource_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/resource"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

var start = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func secs(n int) time.Duration { return time.Duration(n) * time.Second }

func equal(a, b []int) bool { return slices.Equal(a, b) }

// box is a real container with the means to measure it.
type box struct {
	t      *testing.T
	groups *resource.Cgroups
	engine *testenv.Docker
	id     string
}

func newBox(t *testing.T) *box {
	engine := testenv.NeedDocker(t)
	groups, err := resource.OpenCgroups()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(engine.MustRun(t, "run", "-d", "--network=none", engine.BusyboxImage(t), "sleep", "600"))
	t.Cleanup(func() { engine.Remove(t, id) })
	groups.Find([]string{id})
	return &box{t, groups, engine, id}
}

func (b *box) in(script string) {
	b.t.Helper()
	b.engine.MustRun(b.t, "exec", "-d", b.id, "sh", "-c", script)
}

func (b *box) read() resource.Use {
	b.t.Helper()
	u, err := b.groups.Read(b.id, resource.Want{Files: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// uses waits until the container's use is as it should be.
func (b *box) uses(what string, ok func(map[policy.Resource]uint64) bool) {
	b.t.Helper()
	until(b.t, b.groups, b.id, what, ok)
}

// TestMeasures lets a container use each resource and looks whether it shows.
func TestMeasures(t *testing.T) {
	b := newBox(t)
	idle := b.read()
	if idle.Levels[policy.ResourcePIDs] != 1 || idle.Levels[policy.ResourceMemory] == 0 || idle.Levels[policy.ResourceMemory] > 64<<20 {
		t.Errorf("at rest: %v", idle.Levels)
	}
	b.uses("it rests", func(a map[policy.Resource]uint64) bool {
		network, measured := a[policy.ResourceNetwork]
		return a[policy.ResourceCPU] < 100 && a[policy.ResourceDiskWrites] == 0 && network == 0 && measured
	})
	b.in("for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait")
	b.uses("nine processes more are seen, with their descriptors", func(a map[policy.Resource]uint64) bool {
		return a[policy.ResourcePIDs] == 10 && a[policy.ResourceFiles] >= 10*3
	})
	b.in("exec tail -c 104857600 /dev/zero") // keeps what it reads
	b.uses("its memory grows", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceMemory] > 32<<20 })
	b.in("while :; do :; done")
	b.uses("a busy loop is seen", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceCPU] > 100 })
	b.in("while :; do dd if=/dev/zero of=/big bs=1M count=64 conv=fsync; done")
	b.uses("its writes are seen", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceDiskWrites] > 1<<20 })
}

// TestSeesPauses: a paused container is known as such.
func TestSeesPauses(t *testing.T) {
	b := newBox(t)
	for _, c := range []struct {
		command string
		frozen  bool
	}{{"pause", true}, {"unpause", false}} {
		b.engine.MustRun(t, c.command, b.id)
		if got := b.read().Frozen; got != c.frozen {
			t.Errorf("after %s: frozen %v", c.command, got)
		}
	}
}

// TestMeasuresNetwork sends packets out of an interface of a container's own
// network.
func TestMeasuresNetwork(t *testing.T) {
	b := newBox(t)
	pid := strings.TrimSpace(b.engine.MustRun(t, "inspect", "--format={{.State.Pid}}", b.id))
	net := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("nsenter", append([]string{"-t", pid, "-n", "ip"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	net("link", "add", "v0", "type", "veth", "peer", "name", "v1")
	net("link", "set", "v0", "up")
	net("link", "set", "v1", "up")
	net("addr", "add", "10.99.0.1/24", "dev", "v0")
	net("neigh", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "v0") // nobody answers, nothing is asked
	b.in("ping -s 60000 10.99.0.2")
	b.uses("its packets are seen", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceNetwork] > 30_000 })
}

// TestThrottles holds a busy container to a fiftieth of a core and few processes, and
// gives it back what it had; a later agent does the latter, too.
func TestThrottles(t *testing.T) {
	b := newBox(t)
	path := filepath.Join(t.TempDir(), "throttled.json")
	throttle, err := resource.OpenThrottle(b.groups, path)
	if err != nil {
		t.Fatal(err)
	}
	before := b.settings()
	b.in("while :; do :; done")
	b.in("while :; do :; done")
	b.uses("it is busy", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceCPU] > 100 })
	for _, l := range []policy.Limit{
		{Resource: policy.ResourceCPU, Most: 20, Effect: event.EffectThrottle},
		{Resource: policy.ResourcePIDs, Most: 4, Effect: event.EffectThrottle},
		{Resource: policy.ResourceMemory, Most: 64 << 20, Effect: event.EffectThrottle},
	} {
		if _, err := throttle.Set(b.id, l, 7); err != nil {
			t.Error(err)
		}
	}
	b.uses("it is held to a fiftieth of a core", func(a map[policy.Resource]uint64) bool {
		return a[policy.ResourceCPU] > 0 && a[policy.ResourceCPU] < 60
	})
	held := b.settings()
	for name, was := range before {
		if held[name] == was {
			t.Errorf("%s still holds %s", name, was)
		}
	}
	if _, err := throttle.Set(b.id, policy.Limit{Resource: policy.ResourceNetwork, Most: 1}, 7); err == nil {
		t.Error("the network is throttled by nothing")
	}
	later, err := resource.OpenThrottle(b.groups, path)
	if err != nil {
		t.Fatal(err)
	}
	if got := later.Held(); len(got) != 3 || got[0] != (resource.Held{Container: b.id, Resource: policy.ResourceCPU, Most: 20, Generation: 7}) {
		t.Errorf("a later agent knows %+v", got)
	}
	for _, h := range later.Held() {
		if err := later.Lift(h.Container, h.Resource); err != nil {
			t.Error(err)
		}
	}
	for name, now := range b.settings() {
		if now != before[name] {
			t.Errorf("%s holds %s, not %s as before", name, now, before[name])
		}
	}
	b.uses("it is busy again", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceCPU] > 100 })
	if again, err := resource.OpenThrottle(b.groups, path); err != nil || len(again.Held()) != 0 {
		t.Errorf("%v %+v", err, again.Held())
	}
}

// TestOthersSettingsStay: what an administrator set meanwhile is not taken back.
func TestOthersSettingsStay(t *testing.T) {
	b := newBox(t)
	throttle, err := resource.OpenThrottle(b.groups, filepath.Join(t.TempDir(), "throttled.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := throttle.Set(b.id, policy.Limit{Resource: policy.ResourcePIDs, Most: 50}, 7); err != nil {
		t.Fatal(err)
	}
	b.engine.MustRun(t, "update", "--pids-limit=70", b.id)
	if err := throttle.Lift(b.id, policy.ResourcePIDs); err != nil {
		t.Error(err)
	}
	if now := b.settings()["pids.max"]; now != "70" {
		t.Errorf("the limit of processes is %s", now)
	}
}

// settings are those of the container's groups, by the names of their files.
func (b *box) settings() map[string]string {
	b.t.Helper()
	all := map[string]string{}
	for _, name := range []string{"cpu.max", "cpu.cfs_quota_us", "pids.max", "memory.high", "memory.soft_limit_in_bytes"} {
		for _, pattern := range []string{"/sys/fs/cgroup/*/docker/", "/sys/fs/cgroup/docker/", "/sys/fs/cgroup/system.slice/docker-"} {
			files, _ := filepath.Glob(pattern + b.id + "*/" + name)
			for _, file := range files {
				if raw, err := os.ReadFile(file); err == nil {
					all[name] = strings.TrimSpace(string(raw))
				}
			}
		}
	}
	if len(all) != 3 {
		b.t.Fatalf("the container's groups have %v", all)
	}
	return all
}

// TestUnknownContainers: what is gone is told as that.
func TestUnknownContainers(t *testing.T) {
	groups, err := resource.OpenCgroups()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("e", 64)
	groups.Find([]string{id, "short", ""})
	if _, err := groups.Read(id, resource.Want{}); err == nil || !strings.Contains(err.Error(), "no cgroup") {
		t.Errorf("%v", err)
	}
}

// TestThrottlesWrites holds a container that writes past the cache, which both
// versions of cgroups can.
func TestThrottlesWrites(t *testing.T) {
	b := newBox(t)
	throttle, err := resource.OpenThrottle(b.groups, filepath.Join(t.TempDir(), resource.ThrottleFile))
	if err != nil {
		t.Fatal(err)
	}
	limit := policy.Limit{Resource: policy.ResourceDiskWrites, Most: 1 << 20, Effect: event.EffectThrottle}
	b.in("while :; do dd if=/dev/zero of=/big bs=1M count=4 oflag=direct; done")
	b.uses("it writes", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceDiskWrites] > 4<<20 })
	if _, err := throttle.Set(b.id, limit, 7); err != nil {
		t.Fatal(err)
	}
	b.uses("it writes less", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceDiskWrites] < 3<<20 })
	if err := throttle.LiftAll(); err != nil {
		t.Fatal(err)
	}
	b.uses("it writes as before", func(a map[policy.Resource]uint64) bool { return a[policy.ResourceDiskWrites] > 4<<20 })
}
