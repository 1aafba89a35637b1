package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/breakwater-sec/breakwater/internal/gate/dockerfacts"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/workload"
)

// startFacts are the parameters that a running container was started with:
// from its engine's inspection, else from its runtime's bundle.
func (e *engines) startFacts(ctx context.Context, subject policy.Subject, found workload.Found) (policy.StartFacts, error) {
	if found.Inspection == nil {
		return bundleFacts(subject, found), nil
	}
	facts, err := dockerfacts.Inspect(ctx, found.Inspection, e.hostOf(ctx, found.Socket), e)
	if err != nil {
		return facts, fmt.Errorf("container %s: %w", short(found.Container.ID), err)
	}
	container := facts.Container
	facts.Subject = subject
	facts.Container.Capabilities = container.Capabilities
	return facts, nil
}

// Container implements dockerfacts.Lookup: a container that another one joins.
func (e *engines) Container(ctx context.Context, id string) ([]byte, error) {
	found, err := e.Describe(ctx, id)
	return found.Inspection, err
}

// Volume implements dockerfacts.Lookup: a volume may be a folder of the host.
func (e *engines) Volume(ctx context.Context, name string) ([]byte, error) {
	var failed []error
	for _, d := range e.docker {
		raw, err := d.Volume(ctx, name)
		if err == nil {
			return raw, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// hostOf is what the engine at socket gives every container unasked. An engine that does
// not say leaves the zero value, under which nothing is taken for granted.
func (e *engines) hostOf(ctx context.Context, socket string) dockerfacts.Host {
	for _, d := range e.docker {
		if d.Socket() != socket {
			continue
		}
		info, err := d.Info(ctx)
		if err != nil {
			continue
		}
		if host, err := dockerfacts.HostFromInfo(info); err == nil {
			host.Paths = dockerfacts.HostPaths()
			return host
		}
	}
	return dockerfacts.Host{}
}

// bundleFacts reads what a runtime's bundle says. It has no notion of
// "privileged"; a container with every capability is as good as that.
func bundleFacts(subject policy.Subject, found workload.Found) policy.StartFacts {
	c := found.Container
	facts := policy.StartFacts{Subject: subject, Privileged: c.Privileged, AddCapabilities: slices.Clone(c.Capabilities)}
	if c.HostPID {
		facts.HostNamespaces = append(facts.HostNamespaces, "pid")
	}
	return facts
}
