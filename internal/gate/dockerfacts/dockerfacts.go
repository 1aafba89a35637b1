// Package dockerfacts turns what a Docker engine is asked, or says about a
// container, into the facts that policy judges.
//
// It reads JSON as the engine does (keys in any case; host configuration also
// at the top of a create request, as old clients send it) and refuses what can
// be read in two ways. It asks nobody but the Lookup it is given, so the gate
// (before a start) and the agent (when a container appears that no gate saw)
// come to the same facts.
package dockerfacts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// ErrNotFound is wrapped by a Lookup's errors about things the engine does not have.
var ErrNotFound = errors.New("not found in the engine")

// Lookup asks the engine about things that a request only names. Answers are
// the engine's JSON. Errors about unknown things wrap ErrNotFound.
type Lookup interface {
	Container(ctx context.Context, id string) ([]byte, error) // GET /containers/{id}/json
	Volume(ctx context.Context, name string) ([]byte, error)  // GET /volumes/{name}
}

// Host is what the facts need to know about an engine's host.
type Host struct {
	// CgroupV1: the engine gives every container the host's cgroup namespace
	// unasked, so a stored "host" does not mean that anybody asked for it.
	CgroupV1 bool
	// Seccomp is the profile of containers that name none: default,
	// unconfined, or "" when the engine has no seccomp.
	Seccomp string
	// AppArmor is the same for AppArmor: docker-default or "".
	AppArmor string
	// NoNewPrivileges: the engine sets it on every container.
	NoNewPrivileges bool
	// Paths resolves host paths; nil leaves them as they are.
	Paths *Paths
}

// HostFromInfo reads the engine's answer to GET /info.
func HostFromInfo(info []byte) (Host, error) {
	var v struct {
		CgroupVersion   string
		SecurityOptions []string
	}
	if err := json.Unmarshal(info, &v); err != nil {
		return Host{}, fmt.Errorf("engine's /info: %w", err)
	}
	h := Host{CgroupV1: v.CgroupVersion == "1"}
	for _, option := range v.SecurityOptions {
		name, rest, _ := strings.Cut(strings.TrimPrefix(option, "name="), ",")
		switch name {
		case "seccomp":
			h.Seccomp = "default"
			if strings.Contains(rest, "profile=unconfined") {
				h.Seccomp = "unconfined"
			}
		case "apparmor":
			h.AppArmor = "docker-default"
		case "no-new-privileges":
			h.NoNewPrivileges = true
		}
	}
	return h, nil
}

// Create gives the facts of a POST /containers/create with this name and body,
// and the image it names. The subject's image holds the name as its only
// reference; resolving it is the caller's.
func Create(ctx context.Context, name string, body []byte, host Host, look Lookup) (facts policy.StartFacts, image string, err error) {
	if err := Strict(body); err != nil {
		return facts, "", fmt.Errorf("request body: %w", err)
	}
	var create createBody
	var outer hostConfig
	if err := errors.Join(json.Unmarshal(body, &create), json.Unmarshal(body, &outer)); err != nil {
		return facts, "", fmt.Errorf("request body: %w", err)
	}
	config := create.HostConfig
	switch {
	case config == nil:
		config = &outer
	case !reflect.DeepEqual(outer, hostConfig{}):
		return facts, "", errors.New("request body: host configuration both inside and outside of HostConfig")
	}
	r := reader{ctx: ctx, host: host, look: look}
	facts = r.facts(config)
	if create.NetworkingConfig != nil {
		if _, ok := create.NetworkingConfig.EndpointsConfig["host"]; ok {
			addNamespace(&facts, "net")
		}
	}
	facts.Mounts, err = r.mounts(config, nil)
	if err != nil {
		return facts, "", err
	}
	facts.Image = event.Image{References: []string{create.Image}}
	facts.Container = container(facts, event.Container{Name: name, Image: facts.Image, Labels: create.Labels})
	return facts, create.Image, nil
}

// Inspect gives the facts of a container from the engine's inspection of it
// (GET /containers/{id}/json). look may be nil: then volumes and joined
// namespaces are known only as far as the inspection shows them.
func Inspect(ctx context.Context, inspected []byte, host Host, look Lookup) (policy.StartFacts, error) {
	var c inspection
	if err := json.Unmarshal(inspected, &c); err != nil {
		return policy.StartFacts{}, fmt.Errorf("engine's inspection of a container: %w", err)
	}
	if c.ID == "" || c.HostConfig == nil {
		return policy.StartFacts{}, errors.New("engine's inspection of a container: no Id or no HostConfig")
	}
	r := reader{ctx: ctx, host: host, look: look, stored: true}
	facts := r.facts(c.HostConfig)
	var err error
	if facts.Mounts, err = r.mounts(c.HostConfig, c.Mounts); err != nil {
		return facts, fmt.Errorf("container %s: %w", c.ID, err)
	}
	facts.Image = event.Image{Digest: c.Image}
	described := event.Container{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Image: facts.Image}
	if c.Config != nil {
		facts.Image.References = []string{c.Config.Image}
		described.Image = facts.Image
		described.Labels = c.Config.Labels
	}
	facts.Container = container(facts, described)
	return facts, nil
}

// container completes a description with what the facts say.
func container(f policy.StartFacts, c event.Container) event.Container {
	c.Engine = "docker"
	c.Workload = workload(c.Labels)
	c.Privileged = f.Privileged
	c.Capabilities = f.AddCapabilities
	for _, ns := range f.HostNamespaces {
		c.HostPID = c.HostPID || ns == "pid"
	}
	return c
}

// workload is the name that Compose or Swarm gives to what a container is part
// of; package workload names it in the same way.
func workload(labels map[string]string) string {
	if v := labels["com.docker.swarm.service.name"]; v != "" {
		return v
	}
	service := labels["com.docker.compose.service"]
	if project := labels["com.docker.compose.project"]; project != "" && service != "" {
		return project + "/" + service
	}
	return service
}
