package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate/dockerfacts"
)

const (
	engineTimeout = 10 * time.Second // of one question; the engine answers from memory
	maxAnswer     = 16 << 20         // bytes of one answer
)

// engine asks a Docker engine the few things that a judgement needs. Its own
// calls pass the gate again, as reads. Safe for concurrent use.
type engine struct {
	socket string
	client *http.Client
	memory memory
}

func newEngine(socket string) *engine {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &engine{socket: socket, client: &http.Client{
		Timeout:   engineTimeout,
		Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute},
		// A redirect means that a name was not in its plain form.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get asks for one path. A 404 is an error that wraps dockerfacts.ErrNotFound.
func (e *engine) get(ctx context.Context, path ...string) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "docker", Path: "/" + strings.Join(path, "/")}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r, err := e.client.Do(q)
	if err != nil {
		return nil, fmt.Errorf("docker engine at %s: %w", e.socket, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("docker engine at %s: %s: %w", e.socket, u.Path, err)
	case r.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", u.Path, dockerfacts.ErrNotFound)
	case r.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("docker engine at %s: %s: %s: %.300s", e.socket, u.Path, r.Status, body)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("docker engine at %s: %s: more than %d bytes", e.socket, u.Path, maxAnswer)
	}
	return body, nil
}

// Container and Volume make an engine a dockerfacts.Lookup.
func (e *engine) Container(ctx context.Context, id string) ([]byte, error) {
	return e.get(ctx, "containers", id, "json")
}

func (e *engine) Volume(ctx context.Context, name string) ([]byte, error) {
	return e.get(ctx, "volumes", name)
}

// image resolves a name, an id or a digest to the content it means now.
func (e *engine) image(ctx context.Context, name string) (event.Image, error) {
	found, epoch, ok := e.memory.image(name)
	if ok {
		found.References = slices.Clone(found.References) // callers add to it
		return found, nil
	}
	found, err := e.askImage(ctx, name)
	if err == nil {
		e.memory.keepImage(name, epoch, found)
	}
	return found, err
}

func (e *engine) askImage(ctx context.Context, name string) (event.Image, error) {
	raw, err := e.get(ctx, "images", name, "json")
	if err != nil {
		return event.Image{}, err
	}
	var v struct {
		ID          string `json:"Id"`
		RepoTags    []string
		RepoDigests []string
		Os          string
		Arch        string `json:"Architecture"`
		Variant     string
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return event.Image{}, fmt.Errorf("docker engine at %s: image %q: %w", e.socket, name, err)
	}
	if !isDigest(v.ID) {
		return event.Image{}, fmt.Errorf("docker engine at %s: image %q: its id %q is no digest", e.socket, name, v.ID)
	}
	platform := v.Os + "/" + v.Arch
	if v.Variant != "" {
		platform += "/" + v.Variant
	}
	// The engine's names are sorted: the one that was asked for goes first.
	references := slices.Concat(v.RepoTags, v.RepoDigests)
	for _, known := range []string{name, name + ":latest"} {
		if i := slices.Index(references, known); i > 0 {
			references = slices.Insert(slices.Delete(references, i, i+1), 0, known)
		}
	}
	return event.Image{Digest: v.ID, Platform: platform, References: references}, nil
}

// describe gives the engine's host.
func (e *engine) describe(ctx context.Context) (dockerfacts.Host, error) {
	host, epoch, ok := e.memory.describe()
	if ok {
		return host, nil
	}
	host, err := e.askHost(ctx)
	if err == nil {
		e.memory.keepHost(epoch, host)
	}
	return host, err
}

func (e *engine) askHost(ctx context.Context) (dockerfacts.Host, error) {
	raw, err := e.get(ctx, "info")
	if err != nil {
		return dockerfacts.Host{}, err
	}
	host, err := dockerfacts.HostFromInfo(raw)
	host.Paths = dockerfacts.HostPaths()
	return host, err
}

// missing says whether an error means that the engine does not have the thing
// asked about: the engine then refuses the call by itself.
func missing(err error) bool { return errors.Is(err, dockerfacts.ErrNotFound) }
