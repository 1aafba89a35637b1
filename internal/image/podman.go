package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Storage is what Podman, CRI-O and Buildah keep images in (containers/storage):
// read from its folders, with the drivers overlay and vfs; no engine needs to
// run.
type Storage struct{ Path string }

// StorageRoot is where root's images are.
const StorageRoot = "/var/lib/containers/storage"

const (
	maxStorageIndex = 64 << 20 // bytes of images.json or layers.json
	maxSearch       = 512      // layers up to the base
)

type storedImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Layer string   `json:"layer"` // the top one
}

type storedLayer struct {
	ID     string `json:"id"`
	Parent string `json:"parent"`
	Diff   string `json:"diff-digest"`
}

// Open finds an image by name, id or digest.
func (s Storage) Open(_ context.Context, want string) (*Source, error) {
	root, err := os.OpenRoot(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.notFound()
	}
	if err != nil {
		return nil, fmt.Errorf("storage %s: %w", s.Path, reason(err))
	}
	defer func() { _ = root.Close() }() // it was only read
	for _, driver := range []string{"overlay", "vfs"} {
		img, err := findStored(root, driver, want)
		if err != nil {
			return nil, fmt.Errorf("storage %s: %w", s.Path, err)
		}
		if img != nil {
			src, err := s.open(root, driver, img)
			if err != nil {
				return nil, fmt.Errorf("storage %s: %w", s.Path, err)
			}
			return src, nil
		}
	}
	return nil, s.notFound()
}

func (s Storage) notFound() error {
	return &notFoundError{"Podman's storage (" + s.Path + ")"}
}

func findStored(root *os.Root, driver, want string) (*storedImage, error) {
	data, err := readIn(root, driver+"-images/images.json", maxStorageIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []storedImage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("images.json: %w", err)
	}
	id := strings.TrimPrefix(want, "sha256:")
	for i := range all {
		if all[i].ID == id || len(id) >= 12 && strings.HasPrefix(all[i].ID, id) && isHex(id) || slices.ContainsFunc(all[i].Names, func(name string) bool { return isNamed(name, want) }) {
			return &all[i], nil
		}
	}
	return nil, nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// isNamed: localhost/ is what Podman puts before what was built here.
func isNamed(name, want string) bool {
	return slices.Contains(canonical(want), name) || slices.Contains(canonical("localhost/"+want), name)
}

func (s Storage) open(root *os.Root, driver string, stored *storedImage) (*Source, error) {
	if !isHex(stored.ID) {
		return nil, fmt.Errorf("image id %q", stored.ID)
	}
	// Big data is kept in files whose names are base64 when they hold a colon.
	file := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+stored.ID))
	limits := DefaultLimits()
	config, err := readIn(root, driver+"-images/"+stored.ID+"/"+file, limits.Metadata)
	if err != nil {
		return nil, err
	}
	img, err := readConfig(stored.ID, config, limits)
	if err != nil {
		return nil, err
	}
	img.Tags = stored.Names
	chain, err := storedChain(root, driver, stored.Layer)
	if err != nil {
		return nil, err
	}
	if driver == "vfs" {
		return s.vfs(root, img, stored.Layer)
	}
	if len(chain) != len(img.Layers) {
		return nil, fmt.Errorf("the image has %d layers, its configuration names %d", len(chain), len(img.Layers))
	}
	folders := make([]string, len(chain))
	for i, l := range chain {
		if l.Diff != img.Layers[i].DiffID {
			return nil, fmt.Errorf("layer %d is %s there, and %s in the configuration", i, l.Diff, img.Layers[i].DiffID)
		}
		folder := filepath.Join(driver, l.ID, "diff")
		if info, err := root.Stat(folder); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("layer %d: %s cannot be read: %w", i, folder, errors.Join(err))
		}
		folders[i] = filepath.Join(s.Path, folder)
	}
	return folderSource(img, folders), nil
}

// storedChain follows parents from the top layer; the base is first in what it
// gives.
func storedChain(root *os.Root, driver, top string) (chain []storedLayer, err error) {
	data, err := readIn(root, driver+"-layers/layers.json", maxStorageIndex)
	if err != nil {
		return nil, err
	}
	var all []storedLayer
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("layers.json: %w", err)
	}
	byID := make(map[string]storedLayer, len(all))
	for _, l := range all {
		if isHex(l.ID) {
			byID[l.ID] = l
		}
	}
	for id := top; id != ""; id = byID[id].Parent {
		l, ok := byID[id]
		if !ok {
			return nil, fmt.Errorf("layer %q is missing", id)
		}
		if chain = append(chain, l); len(chain) > maxSearch {
			return nil, errors.New("layers.json: a layer is its own parent")
		}
	}
	slices.Reverse(chain)
	return chain, nil
}

// vfs keeps a whole file system per layer: only the last one is read, and
// nothing tells which layer brought what.
func (s Storage) vfs(root *os.Root, img *Image, top string) (*Source, error) {
	folder := filepath.Join("vfs", "dir", top)
	if info, err := root.Stat(folder); err != nil || !info.IsDir() || len(img.Layers) == 0 {
		return nil, fmt.Errorf("%s cannot be read: %w", folder, errors.Join(err))
	}
	img.Layers = img.Layers[len(img.Layers)-1:]
	src := folderSource(img, []string{filepath.Join(s.Path, folder)})
	src.Mixed, src.Notes = true, []string{"the storage driver vfs keeps no layers apart: everything is shown with the last one, and what a layer deleted is not seen"}
	return src, nil
}
