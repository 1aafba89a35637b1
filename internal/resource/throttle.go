package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// Throttle holds containers to limits by their control groups, and knows on
// disk what was there before, so that also a later agent gives it back. Safe for
// concurrent use.
type Throttle struct {
	groups *Cgroups
	path   string

	mu   sync.Mutex
	held map[string]map[policy.Resource]hold
}

// hold is one limit that is written into a container's group.
type hold struct {
	Most       uint64    `json:"most"`
	Generation uint64    `json:"generation"`
	Settings   []setting `json:"settings"`
}

// setting is one file of a group. Was is what is written to take Set back, Set
// what the kernel made of what was written.
type setting struct {
	File string `json:"file"`
	Was  string `json:"was"`
	Set  string `json:"set"`
	// Device: the file has a line for each device, and the setting is of this one.
	Device string `json:"device,omitempty"`
}

// Held names a limit that a container is held to.
type Held struct {
	Container string
	Resource  policy.Resource
	Most      uint64
	// Generation of the policy that wanted it.
	Generation uint64
}

// ThrottleFile is the name of Throttle's file in an agent's folder.
const ThrottleFile = "throttled.json"

// OpenThrottle reads what an earlier agent left. path is a file of the agent's
// folder.
func OpenThrottle(groups *Cgroups, path string) (*Throttle, error) {
	t := &Throttle{groups: groups, path: path, held: map[string]map[policy.Resource]hold{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &t.held)
	}
	if err != nil {
		t.held = map[string]map[policy.Resource]hold{}
		return t, fmt.Errorf("throttled containers: %s: %w: what they were held to stays until they end", path, err)
	}
	return t, nil
}

// Held lists what containers are held to.
func (t *Throttle) Held() []Held {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Held
	for _, id := range slices.Sorted(maps.Keys(t.held)) {
		for _, r := range slices.Sorted(maps.Keys(t.held[id])) {
			all = append(all, Held{id, r, t.held[id][r].Most, t.held[id][r].Generation})
		}
	}
	return all
}

// Set holds a container to a limit that the policy of a generation wants. The message says what it does not hold on
// this host.
func (t *Throttle) Set(id string, l policy.Limit, generation uint64) (message string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.lift(id, l.Resource); err != nil {
		return "", err
	}
	settings, message, err := t.settings(id, l)
	if err != nil {
		return "", fmt.Errorf("throttle %s of container %s: %w", l.Resource, id, err)
	}
	if t.held[id] == nil {
		t.held[id] = map[policy.Resource]hold{}
	}
	// First what was there, so that an agent killed in between can undo it.
	t.held[id][l.Resource] = hold{l.Most, generation, settings}
	if err := t.save(); err != nil {
		delete(t.held[id], l.Resource)
		return "", err
	}
	for i := range settings {
		s := &settings[i]
		if err = os.WriteFile(s.File, []byte(s.Set), 0); err != nil {
			return "", errors.Join(fmt.Errorf("throttle %s of container %s: %w", l.Resource, id, err), t.lift(id, l.Resource))
		}
		if now, err := s.now(); err == nil {
			s.Set = now // in the kernel's spelling, rounded
		}
	}
	return message, t.save()
}

// LiftAll lifts everything that is held.
func (t *Throttle) LiftAll() error {
	var failed []error
	for _, h := range t.Held() {
		failed = append(failed, t.Lift(h.Container, h.Resource))
	}
	return errors.Join(failed...)
}

// Lift gives a container back what it had before, unless somebody else set
// something there meanwhile.
func (t *Throttle) Lift(id string, r policy.Resource) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lift(id, r)
}

// lift is Lift; t.mu is held.
func (t *Throttle) lift(id string, r policy.Resource) error {
	h, ok := t.held[id][r]
	if !ok {
		return nil
	}
	for _, s := range h.Settings {
		now, err := s.now()
		if errors.Is(err, fs.ErrNotExist) {
			continue // the container is gone
		}
		if err == nil && now == s.Set {
			err = os.WriteFile(s.File, []byte(s.Was), 0)
		}
		if err != nil {
			return fmt.Errorf("lift the throttle of %s of container %s: %w", r, id, err)
		}
	}
	delete(t.held[id], r)
	if len(t.held[id]) == 0 {
		delete(t.held, id)
	}
	return t.save()
}

// save writes what is held; t.mu is held.
func (t *Throttle) save() error {
	raw, err := json.Marshal(t.held)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(t.path, raw, 0o640); err != nil {
		return fmt.Errorf("throttled containers: %w", err)
	}
	return nil
}

// settings are what is to be written for a limit.
func (t *Throttle) settings(id string, l policy.Limit) (all []setting, message string, err error) {
	controller := map[policy.Resource]string{policy.ResourceCPU: "cpu", policy.ResourceMemory: "memory", policy.ResourcePIDs: "pids", policy.ResourceDiskWrites: "blkio"}[l.Resource]
	if controller == "" {
		return nil, "", errors.New("no mechanism throttles it")
	}
	dir, legacy, err := t.groups.dir(id, controller)
	if err != nil {
		return nil, "", err
	}
	most := strconv.FormatUint(l.Most, 10)
	switch {
	case l.Resource == policy.ResourceCPU:
		all, err = cpuSettings(dir, legacy, l.Most)
		return all, "", err
	case l.Resource == policy.ResourceDiskWrites && legacy:
		all, err = deviceSettings(disks(), filepath.Join(dir, "blkio.throttle.write_bps_device"), most, "0")
		return all, "On cgroup v1 this holds only writes that pass the cache by.", err
	case l.Resource == policy.ResourceDiskWrites:
		all, err = deviceSettings(written(filepath.Join(dir, "io.stat")), filepath.Join(dir, "io.max"), "wbps="+most, "wbps=max")
		return all, "", err
	case l.Resource == policy.ResourcePIDs:
		all, err = oneSetting(filepath.Join(dir, "pids.max"), most)
		return all, "", err
	case legacy:
		all, err = oneSetting(filepath.Join(dir, "memory.soft_limit_in_bytes"), most)
		return all, "On cgroup v1 this holds only while the host is short of memory.", err
	}
	all, err = oneSetting(filepath.Join(dir, "memory.high"), most)
	return all, "", err
}

func oneSetting(file, set string) ([]setting, error) {
	s := setting{File: file, Set: set}
	was, err := s.now()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: the host does not use this controller for containers", file)
	}
	s.Was = was
	return []setting{s}, err
}

// cpuSettings: the quota is of each period, in microseconds (scheduler/sched-bwc);
// the kernel takes none below a millisecond.
func cpuSettings(dir string, legacy bool, milli uint64) ([]setting, error) {
	const least = 1000
	if legacy {
		period, err := number(filepath.Join(dir, "cpu.cfs_period_us"))
		if err != nil {
			return nil, err
		}
		return oneSetting(filepath.Join(dir, "cpu.cfs_quota_us"), strconv.FormatUint(max(milli*period/1000, least), 10))
	}
	file := filepath.Join(dir, "cpu.max")
	all, err := oneSetting(file, "")
	if err != nil {
		return nil, err
	}
	_, text, _ := strings.Cut(all[0].Was, " ")
	period, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s has no period: %w", file, err)
	}
	all[0].Set = fmt.Sprintf("%d %d", max(milli*period/1000, least), period)
	return all, nil
}

// maxDisks bounds how many devices are limited.
const maxDisks = 64

// disks are the host's, as major:minor. The accounts of v1 name a device only
// once something is limited on it.
func disks() []string {
	files, _ := filepath.Glob("/sys/block/*/dev") // the pattern is right
	var all []string
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") || len(all) == maxDisks {
			continue
		}
		if raw, err := os.ReadFile(file); err == nil {
			all = append(all, strings.TrimSpace(string(raw)))
		}
	}
	return all
}

// written are the devices in a container's account.
func written(account string) []string {
	raw, err := os.ReadFile(account)
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(raw)) {
		device, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(device, ":") && len(all) < maxDisks {
			all = append(all, device)
		}
	}
	return all
}

// deviceSettings limit each device.
func deviceSettings(devices []string, file, most, none string) ([]setting, error) {
	var all []setting
	for _, device := range devices {
		s := setting{File: file, Device: device, Set: device + " " + most}
		was, err := s.now()
		if err != nil {
			return nil, err
		}
		if s.Was = was; was == "" {
			s.Was = device + " " + none
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, errors.New("no disk is known that it writes to")
	}
	return all, nil
}

// now is what the file holds; of one with devices, the device's line.
func (s setting) now() (string, error) {
	raw, err := os.ReadFile(s.File)
	if err != nil {
		return "", err
	}
	if s.Device == "" {
		return strings.TrimSpace(string(raw)), nil
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, s.Device+" ") {
			return strings.TrimSpace(line), nil
		}
	}
	return "", nil
}
