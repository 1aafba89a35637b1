package workload

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// maxSpec bounds a runtime's config.json; real ones are some tens of KiB.
const maxSpec = 4 << 20

// idPattern is what every engine uses as a container id, the only text that is
// ever put into a path here.
var idPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`) })

// Bundles finds the OCI bundles that container runtimes leave on the host, for
// containers that no engine answers for.
type Bundles struct {
	// Root is prefixed to every folder searched; "" is the host's root.
	Root string
}

// bundle folders by engine, "%s" being the container's id; "*" matches one
// folder (a containerd namespace). From containerd's runtime v2 shim layout and
// containers/storage.
var bundlePatterns = []struct{ engine, pattern string }{
	{"containerd", "/run/containerd/io.containerd.runtime.v2.task/*/%s/config.json"},
	{"podman", "/run/containers/storage/*-containers/%s/userdata/config.json"},
	{"podman", "/var/lib/containers/storage/*-containers/%s/userdata/config.json"},
	{"cri-o", "/run/containers/storage/*-containers/%s/userdata/config.json"},
}

// spec is what is read of an OCI runtime specification (opencontainers/runtime-spec, config.md).
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Process     struct {
		Capabilities struct {
			Bounding []string `json:"bounding"`
		} `json:"capabilities"`
	} `json:"process"`
	Linux struct {
		Namespaces []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"linux"`
}

// Inspect describes a container from its bundle. The error wraps ErrUnknown
// when no runtime has one.
func (b Bundles) Inspect(id string) (Found, error) {
	if !idPattern().MatchString(id) {
		return Found{}, fmt.Errorf("container id %q: not an id", id)
	}
	for _, p := range bundlePatterns {
		matches, err := filepath.Glob(filepath.Join(b.Root, fmt.Sprintf(p.pattern, id)))
		if err != nil || len(matches) == 0 {
			continue
		}
		return readBundle(id, p.engine, matches[0])
	}
	return Found{}, fmt.Errorf("container %s: %w (no OCI bundle either)", id, ErrUnknown)
}

func readBundle(id, engine, path string) (Found, error) {
	f, err := os.Open(path)
	if err != nil {
		return Found{}, fmt.Errorf("container %s: OCI bundle: %w", id, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return Found{}, fmt.Errorf("container %s: OCI bundle %s: %w", id, path, err)
	}
	if len(raw) > maxSpec {
		return Found{}, fmt.Errorf("container %s: OCI bundle %s is larger than %d bytes", id, path, maxSpec)
	}
	var s spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return Found{}, fmt.Errorf("container %s: OCI bundle %s: %w", id, path, err)
	}
	return Found{Container: fromSpec(id, engine, s)}, nil
}

func fromSpec(id, engine string, s spec) event.Container {
	c := event.Container{ID: id, Engine: engine, Labels: s.Annotations}
	for _, key := range []string{"io.kubernetes.cri.container-name", "io.container.manager.name", "org.opencontainers.image.title"} {
		if v := s.Annotations[key]; v != "" {
			c.Name = v
			break
		}
	}
	if c.Name == "" {
		c.Name = id[:min(12, len(id))]
	}
	for _, key := range []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.podman.annotations.image"} {
		if v := s.Annotations[key]; v != "" {
			c.Image.References = []string{v}
			break
		}
	}
	c.HostPID = !hasNamespace(s, "pid")
	c.Capabilities = addedCapabilities(s.Process.Capabilities.Bounding)
	c.Privileged = len(s.Process.Capabilities.Bounding) >= 38
	return c
}

func hasNamespace(s spec, kind string) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == kind {
			return true
		}
	}
	return false
}

// defaultCapabilities are those that Docker and containerd grant unasked
// (moby, oci/caps/defaults.go; containerd, pkg/oci/spec.go).
var defaultCapabilities = map[string]bool{
	"CHOWN": true, "DAC_OVERRIDE": true, "FSETID": true, "FOWNER": true, "MKNOD": true,
	"NET_RAW": true, "SETGID": true, "SETUID": true, "SETFCAP": true, "SETPCAP": true,
	"NET_BIND_SERVICE": true, "SYS_CHROOT": true, "KILL": true, "AUDIT_WRITE": true,
}

func addedCapabilities(bounding []string) []string {
	var added []string
	for _, c := range bounding {
		if c = strings.TrimPrefix(c, "CAP_"); !defaultCapabilities[c] {
			added = append(added, c)
		}
	}
	return added
}
