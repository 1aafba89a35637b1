package dockerfacts

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// Update gives the facts of a container after POST /containers/{id}/update
// with this body. Zero and null leave a limit as it is; a negative one lifts it.
func Update(facts policy.StartFacts, body []byte) (policy.StartFacts, error) {
	if err := Strict(body); err != nil {
		return facts, fmt.Errorf("request body: %w", err)
	}
	var h hostConfig
	if err := json.Unmarshal(body, &h); err != nil {
		return facts, fmt.Errorf("request body: %w", err)
	}
	if h.Memory != 0 {
		facts.MemoryLimit = max(0, h.Memory)
	}
	if h.PidsLimit != nil {
		facts.PidsLimit = max(0, *h.PidsLimit)
	}
	if h.NanoCpus != 0 || h.CpuQuota != 0 {
		facts.CPULimit = cpus(&h)
	}
	for _, d := range h.Devices {
		facts.Devices = append(facts.Devices, d.PathOnHost)
	}
	for _, rule := range h.DeviceCgroupRules {
		facts.Devices = append(facts.Devices, "cgroup-rule:"+rule)
	}
	return facts, nil
}

// Exec gives the facts of a container with what POST /containers/{id}/exec adds.
func Exec(facts policy.StartFacts, body []byte) (policy.StartFacts, error) {
	if err := Strict(body); err != nil {
		return facts, fmt.Errorf("request body: %w", err)
	}
	var exec struct{ Privileged bool }
	if err := json.Unmarshal(body, &exec); err != nil {
		return facts, fmt.Errorf("request body: %w", err)
	}
	if exec.Privileged {
		facts.Privileged = true
		facts.Container.Privileged = true
	}
	return facts, nil
}

// Build gives the facts of the containers that POST /build makes for a build's
// steps. plain is the same build without anything out of the ordinary.
func Build(query url.Values, host Host) (asked, plain policy.StartFacts) {
	plain.Container.Engine = "docker"
	plain.Container.Build = true
	plain.Seccomp, plain.AppArmor, plain.NoNewPrivileges = host.Seccomp, host.AppArmor, host.NoNewPrivileges
	plain.MemoryLimit, _ = strconv.ParseInt(query.Get("memory"), 10, 64) // the engine refuses what is no number
	h := hostConfig{SecurityOpt: query["securityopt"], NetworkMode: query.Get("networkmode"), CgroupParent: query.Get("cgroupparent")}
	asked = reader{host: host}.facts(&h)
	asked.Container, asked.MemoryLimit = plain.Container, plain.MemoryLimit
	return asked, plain
}
