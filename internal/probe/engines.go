package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// places are where engines listen by their own defaults.
var places = [...]struct{ name, socket string }{
	{"docker", "/run/docker.sock"},
	{"containerd", "/run/containerd/containerd.sock"},
	{"containerd", "/run/k3s/containerd/containerd.sock"},
	{"podman", "/run/podman/podman.sock"},
	{"cri-o", "/run/crio/crio.sock"},
}

const (
	// maxReply bounds what an engine may say about itself.
	maxReply = 1 << 20
	// engineTimeout bounds one question to one engine.
	engineTimeout = 5 * time.Second
)

// Engines is the part of Run that asks for the host's container engines, for
// callers that wait for one to change.
func Engines(ctx context.Context, o Options) []event.Engine {
	return engines(ctx, o.withDefaults())
}

// engines asks every socket that is there, each once, by whatever names. An
// engine that does not answer is listed with its error.
func engines(ctx context.Context, o Options) []event.Engine {
	var found []event.Engine
	seen := map[string]bool{}
	look := func(name, socket string) {
		info, err := os.Stat(socket)
		if err != nil || info.Mode()&os.ModeSocket == 0 {
			return
		}
		if real, err := filepath.EvalSymlinks(socket); err == nil {
			if seen[real] {
				return
			}
			seen[real] = true
		}
		found = append(found, ask(ctx, name, socket, o))
	}
	for _, p := range places {
		look(p.name, filepath.Join("/", o.Root, p.socket))
	}
	for _, socket := range o.Docker {
		look("docker", strings.TrimPrefix(socket, "unix://"))
	}
	return found
}

func ask(ctx context.Context, name, socket string, o Options) event.Engine {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	e := event.Engine{Name: name, Socket: socket}
	var err error
	switch name {
	case "docker":
		e.Version, e.Gate, err = askDocker(ctx, socket, o)
	case "podman":
		e.Version, err = versionOf(ctx, socket, "/version")
	case "containerd":
		e.Version, err = call(ctx, socket, "/containerd.services.version.v1.Version/Version", 1)
	case "cri-o":
		e.Version, err = call(ctx, socket, "/runtime.v1.RuntimeService/Version", 3)
	}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

// askDocker asks the engine which authorization plugins it uses. Docker fails
// closed on a dead plugin, on this question too: then its configuration tells
// whose plugin that is.
func askDocker(ctx context.Context, socket string, o Options) (version, state string, err error) {
	var info struct {
		ServerVersion string
		Plugins       struct{ Authorization []string }
	}
	if err := get(ctx, socket, "/info", &info); err != nil {
		if configured(filepath.Join("/", o.Root, "/etc/docker/daemon.json"), o.Gate) {
			return "", "unreachable", err
		}
		return "", "", err
	}
	if slices.Contains(info.Plugins.Authorization, o.Gate) || o.AsksGate != nil && o.AsksGate(ctx, socket) {
		return info.ServerVersion, "installed", nil
	}
	return info.ServerVersion, "absent", nil
}

func configured(path, gate string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var config struct {
		Plugins []string `json:"authorization-plugins"`
	}
	return json.Unmarshal(b, &config) == nil && slices.Contains(config.Plugins, gate)
}

func versionOf(ctx context.Context, socket, path string) (string, error) {
	var v struct{ Version string }
	err := get(ctx, socket, path, &v)
	return v.Version, err
}

func client(socket string) (*http.Client, *http.Transport) {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	return &http.Client{Transport: t}, t
}

func get(ctx context.Context, socket, path string, into any) error {
	c, t := client(socket)
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("ask %s: %w", socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s: %s", socket, resp.Status, firstLine(body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask %s: %w", socket, err)
	}
	return nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(bytes.TrimSpace(b)), "\n")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return line
}

// call asks a gRPC method that needs an empty message, and returns one string
// field of its answer. One question does not need a gRPC library: the message
// travels as a byte 0, a 32-bit length and its bytes, over HTTP/2.
func call(ctx context.Context, socket, method string, field uint64) (string, error) {
	c, t := client(socket)
	defer t.CloseIdleConnections()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+method, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", socket, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", socket, err)
	}
	if len(body) < 5 {
		return "", fmt.Errorf("ask %s: %s%s", socket, resp.Header.Get("Grpc-Message"), resp.Trailer.Get("Grpc-Message"))
	}
	version, err := stringField(body[5:], field)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", socket, err)
	}
	return version, nil
}

var errMessage = errors.New("malformed answer")

// stringField finds a length-delimited field in a protobuf message that holds
// only such fields. A field that is absent is empty.
func stringField(message []byte, field uint64) (string, error) {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		if n <= 0 || key&7 != 2 {
			return "", errMessage
		}
		message = message[n:]
		size, n := binary.Uvarint(message)
		if n <= 0 || size > uint64(len(message)-n) {
			return "", errMessage
		}
		value := message[n : n+int(size)]
		if key>>3 == field {
			return strings.ToValidUTF8(string(value), "�"), nil
		}
		message = message[n+int(size):]
	}
	return "", nil
}
