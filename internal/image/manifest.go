package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Config is the part of an image's configuration that Breakwater reads. The
// format is Docker's image specification v1.2 and OCI's image-spec config.md.
type Config struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
	Config       struct {
		User         string
		Env          []string
		Entrypoint   []string
		Cmd          []string
		Labels       map[string]string
		ExposedPorts map[string]struct{}
		Volumes      map[string]struct{}
		WorkingDir   string
		StopSignal   string
		OnBuild      []string
		Healthcheck  struct{ Test []string } // Test[0] is NONE to switch it off
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		CreatedBy  string `json:"created_by"`
		Comment    string `json:"comment"`
		EmptyLayer bool   `json:"empty_layer"`
	} `json:"history"`
}

// Platform is os/arch[/variant].
func (c *Config) Platform() string {
	p := c.OS + "/" + c.Architecture
	if c.Variant != "" {
		p += "/" + c.Variant
	}
	return p
}

// Steps is every build step, also those without a layer, as it stood in the
// Dockerfile.
func (c *Config) Steps() []string {
	steps := make([]string, len(c.History))
	for i, h := range c.History {
		steps[i] = tidyStep(h.CreatedBy)
	}
	return steps
}

// steps gives each layer its build step. Without a history that fits the
// layers, steps are left empty rather than guessed.
func (c *Config) steps() []string {
	steps := make([]string, 0, len(c.RootFS.DiffIDs))
	for _, h := range c.History {
		if h.EmptyLayer {
			continue
		}
		step := tidyStep(h.CreatedBy)
		if step == "" {
			step = h.Comment
		}
		steps = append(steps, step)
	}
	if len(steps) != len(c.RootFS.DiffIDs) {
		return make([]string, len(c.RootFS.DiffIDs))
	}
	return steps
}

// BaseLayers is how many of the first layers the build did not make itself, as
// far as the history tells: an image that others build on ends with the command
// that it runs, and a distribution's own image begins with its root.
func (c *Config) BaseLayers() int {
	end := len(c.History)
	for end > 0 && c.History[end-1].EmptyLayer {
		end--
	}
	for end > 0 {
		h := &c.History[end-1]
		if step := tidyStep(h.CreatedBy); h.EmptyLayer && (strings.HasPrefix(step, "CMD ") || strings.HasPrefix(step, "ENTRYPOINT ")) {
			break
		}
		end--
	}
	n := 0
	for _, h := range c.History[:end] {
		if !h.EmptyLayer {
			n++
		}
	}
	switch {
	case n > len(c.RootFS.DiffIDs):
		return 0
	case n == 0 && len(c.RootFS.DiffIDs) > 1 && len(c.History) > 0 && isRoot(c.History[0].CreatedBy, c.History[0].Comment):
		return 1
	}
	return n
}

// isRoot knows how the roots of distributions are put into images: by ADD, or
// by debuerreotype.
func isRoot(step, comment string) bool {
	step = tidyStep(step)
	return strings.HasPrefix(step, "ADD ") && (strings.Contains(step, " in / ") || strings.HasSuffix(step, " in /") || strings.HasSuffix(step, " / ") || strings.HasSuffix(step, " /")) ||
		strings.HasPrefix(comment, "debuerreotype") || strings.HasPrefix(step, "# debian.sh ")
}

const maxStep = 2000 // bytes of a build step that a report keeps

// tidyStep turns what engines record into what stood in the Dockerfile.
func tidyStep(s string) string {
	if nop, ok := strings.CutPrefix(s, "/bin/sh -c #(nop)"); ok {
		s = strings.TrimSpace(nop)
	} else if run, ok := strings.CutPrefix(s, "/bin/sh -c "); ok {
		s = "RUN " + run
	}
	s = strings.TrimSuffix(s, " # buildkit")
	if len(s) > maxStep {
		s = strings.ToValidUTF8(s[:maxStep], "") + "…"
	}
	return s
}

// manifest is one element of a docker archive's manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func parseManifest(data []byte) ([]manifest, error) {
	var ms []manifest
	if err := json.Unmarshal(data, &ms); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(ms) == 0 {
		return nil, errors.New("manifest.json names no image")
	}
	return ms, nil
}

// choose picks the wanted image.
func choose(ms []manifest, want string) (manifest, error) {
	if want == "" && len(ms) == 1 {
		return ms[0], nil
	}
	var names []string
	for _, m := range ms {
		if want != "" && (slices.Contains(m.RepoTags, want) || "sha256:"+configHex(m.Config) == want) {
			return m, nil
		}
		names = append(names, m.name())
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	if want == "" {
		return manifest{}, fmt.Errorf("holds %d images; add the wanted one to the target after a colon: %s", len(ms), strings.Join(names, ", "))
	}
	return manifest{}, fmt.Errorf("holds no image %q, only %s", want, strings.Join(names, ", "))
}

func (m manifest) name() string {
	if len(m.RepoTags) > 0 {
		return m.RepoTags[0]
	}
	return "sha256:" + configHex(m.Config)
}

// configHex is the digest in a config's file name: <hex>.json or
// blobs/sha256/<hex>; "" when the name holds none.
func configHex(name string) string {
	h := strings.TrimPrefix(strings.TrimSuffix(path.Base(name), ".json"), "sha256:")
	if len(h) != 64 {
		return ""
	}
	if _, err := hex.DecodeString(h); err != nil {
		return ""
	}
	return h
}

// parseConfig checks the digest that the name promises and the layers that
// the manifest lists.
func parseConfig(m manifest, data []byte, limits Limits) (*Image, error) {
	img, err := readConfig(m.Config, data, limits)
	if err != nil {
		return nil, err
	}
	img.Tags = m.RepoTags
	if n := len(img.Config.RootFS.DiffIDs); n != len(m.Layers) {
		return nil, fmt.Errorf("the manifest lists %d layers, the config %d", len(m.Layers), n)
	}
	return img, nil
}

// readConfig reads a configuration whose name ends in its digest, if it does.
func readConfig(name string, data []byte, limits Limits) (*Image, error) {
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	if h := configHex(name); h != "" && h != digest {
		return nil, fmt.Errorf("config %s: its content has the digest sha256:%s: it is damaged or forged", name, digest)
	}
	img := &Image{Digest: "sha256:" + digest}
	if err := json.Unmarshal(data, &img.Config); err != nil {
		return nil, fmt.Errorf("config %s: %w", name, err)
	}
	if len(img.Config.RootFS.DiffIDs) > limits.Layers {
		return nil, &LimitError{"layers", int64(limits.Layers)}
	}
	img.Platform = img.Config.Platform()
	img.outline()
	return img, nil
}

// outline gives an image the layers that its config names.
func (img *Image) outline() {
	steps := img.Config.steps()
	for i, id := range img.Config.RootFS.DiffIDs {
		img.Layers = append(img.Layers, Layer{DiffID: id, Step: steps[i]})
	}
}

// place puts the layers that were read under their diff ids and steps. Layers
// that were not hashed take the ids that the config names.
func (img *Image) place(layers []Layer) error {
	steps := img.Config.steps()
	for i, want := range img.Config.RootFS.DiffIDs {
		if layers[i].DiffID == "" {
			layers[i].DiffID = want
		}
		if layers[i].DiffID != want {
			return fmt.Errorf("layer %d: its content has the digest %s, the config names %s: the archive is damaged or forged", i, layers[i].DiffID, want)
		}
		layers[i].Step = steps[i]
	}
	img.Layers = layers
	return nil
}
