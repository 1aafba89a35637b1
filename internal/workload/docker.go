package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Docker is one Docker engine. Safe for concurrent use.
type Docker struct {
	socket string
	client *client.Client
}

// NewDocker makes a client of the engine at a unix socket path. It does not
// connect yet.
func NewDocker(socket string) (*Docker, error) {
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return nil, fmt.Errorf("docker engine at %s: %w", socket, err)
	}
	return &Docker{socket: socket, client: c}, nil
}

// Socket is the path given to NewDocker.
func (d *Docker) Socket() string { return d.socket }

// Close ends idle connections.
func (d *Docker) Close() error { return d.client.Close() }

// Root is the folder in which the engine keeps images and containers.
func (d *Docker) Root(ctx context.Context) (string, error) {
	r, err := d.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", d.wrap("ask for its storage", err)
	}
	return r.Info.DockerRootDir, nil
}

// Inspect describes one container. The error wraps ErrUnknown when the engine
// does not have it.
func (d *Docker) Inspect(ctx context.Context, id string) (Found, error) {
	r, err := d.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		if errdefs.IsNotFound(err) {
			return Found{}, fmt.Errorf("container %s: %w (docker at %s)", id, ErrUnknown, d.socket)
		}
		return Found{}, d.wrap("inspect container "+id, err)
	}
	var names []string // none when the image is gone while its container lives
	if img, err := d.client.ImageInspect(ctx, r.Container.Image); err == nil {
		names = slices.Concat(img.RepoTags, img.RepoDigests)
	}
	return d.found(r.Container, r.Raw, names), nil
}

// Read describes a container as Inspect does, from the engine's own JSON and the
// names of its image that somebody else asked this engine for.
func (d *Docker) Read(inspection []byte, names []string) (Found, error) {
	var c container.InspectResponse
	if err := json.Unmarshal(inspection, &c); err != nil {
		return Found{}, d.wrap("read the inspection of a container", err)
	}
	if c.ID == "" || c.HostConfig == nil || c.Config == nil {
		return Found{}, fmt.Errorf("docker at %s: an inspection without id or configuration", d.socket)
	}
	return d.found(c, inspection, names), nil
}

// Running lists the ids of all running (or paused) containers.
func (d *Docker) Running(ctx context.Context) ([]string, error) {
	return d.list(ctx, client.ContainerListOptions{})
}

// All lists the ids of all containers, stopped ones too.
func (d *Docker) All(ctx context.Context) ([]string, error) {
	return d.list(ctx, client.ContainerListOptions{All: true})
}

func (d *Docker) list(ctx context.Context, which client.ContainerListOptions) ([]string, error) {
	r, err := d.client.ContainerList(ctx, which)
	if err != nil {
		return nil, d.wrap("list containers", err)
	}
	ids := make([]string, len(r.Items))
	for i, c := range r.Items {
		ids[i] = c.ID
	}
	return ids, nil
}

// Watch calls fn for each change, in the engine's order, on the caller's
// goroutine, until the connection ends or ctx does. ready is called once the
// stream is open, so that nothing between a list made in ready and the stream
// is missed.
func (d *Docker) Watch(ctx context.Context, ready func(), fn func(Change)) error {
	// Since=now makes the engine replay nothing and buffer from this moment.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := d.client.Events(ctx, client.EventsListOptions{
		Since:   fmt.Sprint(time.Now().Unix()),
		Filters: client.Filters{}.Add("type", "container"),
	})
	ready()
	for {
		select {
		case m := <-stream.Messages:
			if c, ok := toChange(m); ok {
				fn(c)
			}
		case err := <-stream.Err:
			return d.wrap("event stream", err)
		}
	}
}

// Stop ends a container: its stop signal, then SIGKILL after a second. An
// incident's container gets no long farewell.
func (d *Docker) Stop(ctx context.Context, id string) error {
	second := 1
	_, err := d.client.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &second})
	return d.wrap("stop container "+id, err)
}

// Pause freezes every process of a container.
func (d *Docker) Pause(ctx context.Context, id string) error {
	_, err := d.client.ContainerPause(ctx, id, client.ContainerPauseOptions{})
	return d.wrap("pause container "+id, err)
}

func (d *Docker) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("docker at %s: %s: %w", d.socket, what, err)
}

// found is an inspected container whose image has these names: the one that it
// was started by goes first.
func (d *Docker) found(c container.InspectResponse, raw []byte, names []string) Found {
	found := fromInspect(c)
	found.Inspection, found.Socket = raw, d.socket
	var refs []string
	if c.Config != nil && c.Config.Image != "" && !strings.HasPrefix(c.Config.Image, "sha256:") {
		refs = append(refs, c.Config.Image)
	}
	for _, r := range names {
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	found.Container.Image.References = refs
	return found
}

func fromInspect(c container.InspectResponse) Found {
	found := Found{Container: event.Container{
		ID:     c.ID,
		Name:   strings.TrimPrefix(c.Name, "/"),
		Engine: "docker",
		Image:  event.Image{Digest: c.Image, Platform: c.Platform},
	}}
	if c.State != nil {
		found.Container.Started, _ = time.Parse(time.RFC3339Nano, c.State.StartedAt)
	}
	if c.Config != nil {
		found.Container.Labels = c.Config.Labels
		found.Container.Workload = workloadName(c.Config.Labels)
	}
	if h := c.HostConfig; h != nil {
		found.Container.Privileged = h.Privileged
		found.Container.HostPID = h.PidMode.IsHost()
		found.Container.Capabilities = capabilities(h.CapAdd)
		found.Container.Build = isBuildStep(c)
	}
	return found
}

// isBuildStep recognises the containers of the engine's classic builder: it
// alone makes containers without logs (moby, builder/dockerfile: the default
// log configuration of build steps is "none") that no restart policy or name
// option belongs to. A person can ask for --log-driver none too, so callers
// must let the gate's knowledge overrule this.
func isBuildStep(c container.InspectResponse) bool {
	return c.HostConfig.LogConfig.Type == "none" &&
		c.HostConfig.RestartPolicy.Name == "" && !c.HostConfig.AutoRemove
}

// workloadName prefers what an orchestrator says over nothing.
func workloadName(labels map[string]string) string {
	compose := labels["com.docker.compose.project"]
	for _, key := range []string{"io.kubernetes.pod.name", "com.docker.swarm.service.name", "com.docker.compose.service"} {
		if v := labels[key]; v != "" {
			if key == "com.docker.compose.service" && compose != "" {
				return compose + "/" + v
			}
			return v
		}
	}
	return ""
}

func capabilities(added []string) []string {
	out := make([]string, 0, len(added))
	for _, c := range added {
		out = append(out, strings.TrimPrefix(strings.ToUpper(c), "CAP_"))
	}
	return out
}

func toChange(m events.Message) (Change, bool) {
	c := Change{ID: m.Actor.ID, At: time.Unix(0, m.TimeNano)}
	switch m.Action {
	case events.ActionCreate:
		c.Phase = PhaseCreated
	case events.ActionStart:
		c.Phase = PhaseStarted
	case events.ActionDie:
		c.Phase = PhaseEnded
	case events.ActionDestroy:
		c.Phase = PhaseRemoved
	default:
		return Change{}, false
	}
	return c, true
}

// Info is the engine's own description of itself and its host, as JSON
// (GET /info).
func (d *Docker) Info(ctx context.Context) (json.RawMessage, error) {
	r, err := d.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, d.wrap("info", err)
	}
	return json.Marshal(r.Info)
}

// Volume is one volume as the engine describes it (GET /volumes/{name}).
func (d *Docker) Volume(ctx context.Context, name string) (json.RawMessage, error) {
	r, err := d.client.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	if err != nil {
		return nil, d.wrap("inspect volume "+name, err)
	}
	return json.Marshal(r.Volume)
}
