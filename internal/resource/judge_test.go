package resource_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/resource"
)

// TestOnlyWhatLastsIsTold holds series of measurements against a limit of 100.
func TestOnlyWhatLastsIsTold(t *testing.T) {
	limits := []policy.Limit{{Resource: policy.ResourcePIDs, Most: 100, Effect: event.EffectAlert}}
	for _, c := range []struct {
		name   string
		series []uint64
		told   []int // at which of them
	}{
		{"at the limit", []uint64{100, 100, 100, 100, 100}, nil},
		{"peaks", []uint64{900, 900, 1, 900, 900, 1, 900}, nil},
		{"for long", []uint64{101, 101, 101, 900, 900, 900}, []int{2}},
		{"shortly below", []uint64{101, 101, 101, 1, 1, 101, 101, 101}, []int{2}},
		{"again", []uint64{101, 101, 101, 1, 1, 1, 101, 101, 101}, []int{2, 8}},
	} {
		var judge resource.Judge
		var told []int
		for i, used := range c.series {
			for _, x := range judge.Take(map[policy.Resource]uint64{policy.ResourcePIDs: used}, limits) {
				told = append(told, i)
				if x.Used != used || x.Limit != limits[0] {
					t.Errorf("%s: %+v", c.name, x)
				}
			}
		}
		if !equal(told, c.told) {
			t.Errorf("%s: told at %v, not %v", c.name, told, c.told)
		}
	}
}

// TestAnotherLimitIsJudgedAnew: what was told under one limit says nothing of
// another one, and what cannot be measured is not judged.
func TestAnotherLimitIsJudgedAnew(t *testing.T) {
	var judge resource.Judge
	told := func(most uint64, amounts map[policy.Resource]uint64) (n int) {
		for range 3 {
			n += len(judge.Take(amounts, []policy.Limit{{Resource: policy.ResourceMemory, Most: most}}))
		}
		return n
	}
	much := map[policy.Resource]uint64{policy.ResourceMemory: 1000}
	if n := told(100, much); n != 1 {
		t.Errorf("told %d times", n)
	}
	if n := told(200, much); n != 1 {
		t.Errorf("under another limit told %d times", n)
	}
	if n := told(10, map[policy.Resource]uint64{policy.ResourcePIDs: 1000}); n != 0 {
		t.Errorf("of what was not measured told %d times", n)
	}
}

// TestLeaps: only what lasts and is far above a whole day is told, once.
func TestLeaps(t *testing.T) {
	const cpu = policy.ResourceCPU
	day := func(daily func(i int) uint64) *resource.Past {
		p := &resource.Past{}
		for i := range 288 {
			if leaps := p.Take(map[policy.Resource]uint64{cpu: daily(i)}); len(leaps) > 0 {
				t.Fatalf("told on the first day, at %d: %+v", i, leaps)
			}
		}
		return p
	}
	quiet := func(int) uint64 { return 50 }
	nightly := func(i int) uint64 {
		if i == 20 || i == 21 {
			return 1500
		}
		return 20
	}
	for _, c := range []struct {
		name   string
		past   *resource.Past
		series []uint64
		told   []int
	}{
		{"a miner", day(quiet), []uint64{50, 1900, 1900, 1900, 1900, 1900}, []int{3}},
		{"a short job", day(quiet), []uint64{1900, 1900, 50, 50, 1900, 1900, 1900}, nil},
		{"the nightly job, longer", day(nightly), []uint64{1900, 1900, 1900, 1900}, nil},
		{"little of next to nothing", day(func(int) uint64 { return 1 }), []uint64{400, 400, 400, 400}, nil},
		{"a first day", &resource.Past{}, []uint64{1, 1, 1, 1900, 1900, 1900, 1900}, nil},
	} {
		var told []int
		for i, used := range c.series {
			for _, leap := range c.past.Take(map[policy.Resource]uint64{cpu: used}) {
				told = append(told, i)
				if leap.Resource != cpu || leap.Used != used || leap.Highest == 0 {
					t.Errorf("%s: %+v", c.name, leap)
				}
			}
		}
		if !equal(told, c.told) {
			t.Errorf("%s: told at %v, not %v", c.name, told, c.told)
		}
	}
}

// TestCauseOfPressure: who uses most of what the host has, if it is enough.
func TestCauseOfPressure(t *testing.T) {
	const cpu = policy.ResourceCPU
	uses := func(a, b uint64) map[string]map[policy.Resource]uint64 {
		return map[string]map[policy.Resource]uint64{"a": {cpu: a}, "b": {cpu: b}, "c": {}}
	}
	for _, c := range []struct {
		name string
		of   uint64
		used map[string]map[policy.Resource]uint64
		id   string
		most uint64
	}{
		{"one", 4000, uses(3900, 10), "a", 3900},
		{"the other", 4000, uses(500, 1000), "b", 1000},
		{"too little", 4000, uses(900, 10), "", 0},
		{"the host's capacity is unknown", 0, uses(9, 10), "b", 10},
		{"nobody", 0, uses(0, 0), "", 0},
		{"no container", 4000, nil, "", 0},
	} {
		if id, most := resource.Cause(cpu, c.of, c.used); id != c.id || most != c.most {
			t.Errorf("%s: %q uses %d", c.name, id, most)
		}
	}
}

// TestPressure reads the kernel's own files, where it has them, and what they
// look like when the host is short.
func TestPressure(t *testing.T) {
	if all, err := resource.ReadPressure(resource.PressureFolder); err == nil && len(all) != 3 || err != nil && !errors.Is(err, resource.ErrNoPressure) {
		t.Errorf("%v %v", all, err)
	}
	if _, err := resource.ReadPressure(t.TempDir()); !errors.Is(err, resource.ErrNoPressure) {
		t.Errorf("without files: %v", err)
	}
	dir := t.TempDir()
	write := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cpu", "some avg10=93.50 avg60=12.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	write("memory", "some avg10=90.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=19.00 avg60=0.00 avg300=0.00 total=1\n")
	write("io", "some avg10=99.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=75.00 avg60=0.00 avg300=0.00 total=1\n")
	var judge resource.HostJudge
	var told []resource.Pressure
	for range 5 {
		all, err := resource.ReadPressure(dir)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, judge.Take(all)...)
	}
	if len(told) != 2 || told[0] != (resource.Pressure{Resource: policy.ResourceCPU, Percent: 93}) || told[1] != (resource.Pressure{Resource: policy.ResourceDiskWrites, Percent: 75}) {
		t.Errorf("%+v", told)
	}
	write("io", "nonsense\n")
	if _, err := resource.ReadPressure(dir); err == nil {
		t.Error("nonsense is read")
	}
}

// TestAmounts turns two measurements into rates; what went back counts as nothing.
func TestAmounts(t *testing.T) {
	at := func(seconds int, cpu, network uint64) resource.Use {
		return resource.Use{At: start.Add(secs(seconds)), Totals: map[policy.Resource]uint64{policy.ResourceCPU: cpu, policy.ResourceNetwork: network},
			Levels: map[policy.Resource]uint64{policy.ResourcePIDs: 7}}
	}
	first, second := at(0, 1_000_000, math.MaxUint64), at(5, 8_500_000, 3)
	got := second.Amounts(first)
	if got[policy.ResourceCPU] != 1500 || got[policy.ResourceNetwork] != 0 || got[policy.ResourcePIDs] != 7 {
		t.Errorf("%v", got)
	}
	got = second.Amounts(resource.Use{})
	if _, ok := got[policy.ResourceCPU]; ok || got[policy.ResourcePIDs] != 7 {
		t.Errorf("from one measurement: %v", got)
	}
}
