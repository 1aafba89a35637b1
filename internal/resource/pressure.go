package resource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// PressureFolder is where Linux tells of pressure (PSI, Documentation/accounting/psi).
const PressureFolder = "/proc/pressure"

// ErrNoPressure is returned where the kernel does not account pressure.
var ErrNoPressure = errors.New("the kernel does not account pressure (CONFIG_PSI, psi=1)")

// Pressure is how large a part of the last ten seconds tasks of the host waited
// for one resource, in percent: for cpu any of them, for memory and disk all at
// once.
type Pressure struct {
	Resource policy.Resource // cpu, memory or diskWrites, which stands for all of I/O
	Percent  float64
}

// ReadPressure reads all three.
func ReadPressure(folder string) ([]Pressure, error) {
	var all []Pressure
	for _, f := range []struct {
		file, line string
		resource   policy.Resource
	}{
		{"cpu", "some", policy.ResourceCPU},
		{"memory", "full", policy.ResourceMemory},
		{"io", "full", policy.ResourceDiskWrites},
	} {
		raw, err := os.ReadFile(filepath.Join(folder, f.file))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EOPNOTSUPP) {
			return nil, ErrNoPressure
		}
		if err != nil {
			return nil, fmt.Errorf("pressure on the host: %w", err)
		}
		percent, err := average(string(raw), f.line)
		if err != nil {
			return nil, fmt.Errorf("pressure on the host: %s: %w", f.file, err)
		}
		all = append(all, Pressure{f.resource, percent})
	}
	return all, nil
}

func average(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != name {
			continue
		}
		if value, ok := strings.CutPrefix(fields[1], "avg10="); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("no %s avg10", name)
}

// high is the pressure from which on a host is short of a resource: nearly
// always someone waits for a processor, or nothing goes on for a good part of
// the time.
func high(r policy.Resource) uint64 {
	switch r {
	case policy.ResourceCPU:
		return 80
	case policy.ResourceMemory:
		return 20
	}
	return 60
}

// HostJudge tells of pressure that lasts. The zero value is ready; it is not
// safe for concurrent use.
type HostJudge struct{ judge Judge }

// Take gives the resources that the host is short of, each once until it was
// not for as long.
func (h *HostJudge) Take(all []Pressure) []Pressure {
	amounts := map[policy.Resource]uint64{}
	var limits []policy.Limit
	for _, p := range all {
		amounts[p.Resource] = uint64(p.Percent)
		limits = append(limits, policy.Limit{Resource: p.Resource, Most: high(p.Resource)})
	}
	var told []Pressure
	for _, x := range h.judge.Take(amounts, limits) {
		told = append(told, Pressure{x.Limit.Resource, float64(x.Used)})
	}
	return told
}

// Cause is the container that uses most of a resource. of is how much the host
// has of it in the units of policy.Limit, 0 for what all containers use
// together; who uses less than a quarter of that causes no pressure, and then
// the id is empty.
func Cause(r policy.Resource, of uint64, used map[string]map[policy.Resource]uint64) (id string, most uint64) {
	var all uint64
	for container, amounts := range used {
		n := amounts[r]
		all += n
		if n > most || n == most && n > 0 && container < id {
			id, most = container, n
		}
	}
	if of == 0 {
		of = all
	}
	if most == 0 || most < of/4 {
		return "", 0
	}
	return id, most
}
