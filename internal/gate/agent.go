package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// noteTimeout bounds what the gate waits for the agent before a start goes on
// without it: the default policy in the kernel holds meanwhile.
const noteTimeout = 2 * time.Second

// agentLink talks to the agent over its unix socket. The agent may be dead at
// any time. Safe for concurrent use.
type agentLink struct {
	socket string
	client *http.Client
}

func newAgentLink(dir string) *agentLink {
	socket := filepath.Join(dir, api.SocketAgent)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &agentLink{socket: socket, client: &http.Client{
		Transport: &http.Transport{DialContext: dial, MaxIdleConns: 2, IdleConnTimeout: time.Minute},
	}}
}

// unreachable is the error of an agent that does not answer at all.
type unreachable struct{ err error }

func (u *unreachable) Error() string {
	return fmt.Sprintf("the agent does not answer: %v", u.err)
}

func (u *unreachable) Unwrap() error { return u.err }

// rejected is an agent's answer that is no success.
type rejected struct {
	status int
	text   string
}

func (r *rejected) Error() string { return r.text }

func (a *agentLink) post(ctx context.Context, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return a.postRaw(ctx, path, data, answer)
}

func (a *agentLink) postRaw(ctx context.Context, path string, data []byte, answer any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	r, err := a.client.Do(q)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("agent at %s: %s: no answer in time: %w", a.socket, path, ctx.Err())
		}
		return &unreachable{err}
	}
	defer r.Body.Close()
	if r.StatusCode/100 != 2 {
		said, _ := io.ReadAll(io.LimitReader(r.Body, 1000)) // the status says enough without it
		return &rejected{r.StatusCode, fmt.Sprintf("agent: %s: %s: %s", path, r.Status, bytes.TrimSpace(said))}
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxReport)).Decode(answer); err != nil {
		return fmt.Errorf("agent: %s: %w", path, err)
	}
	return nil
}

// scan asks for a scan now; ctx bounds it.
func (a *agentLink) scan(ctx context.Context, engine string, image event.Image) (*report.Report, error) {
	found := &report.Report{}
	err := a.post(ctx, "/v1/scan", api.ScanRequest{Engine: engine, Digest: image.Digest, Name: image.Name()}, found)
	if err == nil && found.Image.Digest != image.Digest {
		err = fmt.Errorf("agent: asked to scan %s, it scanned %q", image.Digest, found.Image.Digest)
	}
	return found, err
}

// starting tells the agent of a container before it starts.
func (a *agentLink) starting(ctx context.Context, note api.StartNote) error {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	return a.post(ctx, "/v1/start", note, nil)
}

// startNote tells of the container of a ruling, with what its engine said about
// it unless that is too long.
func startNote(engine string, r ruling) api.StartNote {
	note := api.StartNote{Container: briefContainer(r.container)}
	size := len(r.inspection)
	for _, name := range r.container.Image.References {
		size += len(name)
	}
	if size <= api.MaxInspection {
		note.Engine, note.Inspection, note.References = engine, r.inspection, r.container.Image.References
	}
	return note
}

// gate tells the agent how this gate is.
func (a *agentLink) gate(ctx context.Context, note api.GateNote) error {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	return a.post(ctx, "/v1/gate", note, nil)
}
