package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const maxCacheID = 200 // bytes of a name that the engine wrote

// Open gives the image where the engine keeps it. The error is ErrNotInPlace
// when this process may not read that or does not know the storage driver: then
// Export is the way.
//
// The layout is the one of Docker's classic store (moby: layer/filestore.go,
// image/fs.go, daemon/graphdriver/overlay2): image/overlay2/imagedb holds
// configurations by digest; image/overlay2/layerdb tells the folder's name for
// a chain of diff ids; overlay2/NAME/diff holds the layer's files.
func (d *Docker) Open(found Found) (*Source, error) {
	if !found.ConfigDigest || found.root == "" {
		return nil, ErrNotInPlace
	}
	return openDockerStore(found.root, found.Digest)
}

func openDockerStore(dir, digest string) (*Source, error) {
	name, err := digestHex(digest)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotInPlace, err)
	}
	defer func() { _ = root.Close() }() // it was only read
	limits := DefaultLimits()
	config, err := readIn(root, "image/overlay2/imagedb/content/sha256/"+name, limits.Metadata)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotInPlace, err)
	}
	img, err := readConfig(digest, config, limits)
	if err != nil {
		return nil, err
	}
	folders := make([]string, len(img.Layers))
	chain := ""
	for i, l := range img.Layers {
		if chain, err = chainID(chain, l.DiffID); err != nil {
			return nil, err
		}
		id, err := readIn(root, "image/overlay2/layerdb/sha256/"+chain+"/cache-id", maxCacheID)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotInPlace, err)
		}
		folder := filepath.Join("overlay2", filepath.Base(strings.TrimSpace(string(id))), "diff")
		if info, err := root.Stat(folder); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%w: %w", ErrNotInPlace, err)
		}
		folders[i] = filepath.Join(dir, folder)
	}
	return folderSource(img, folders), nil
}

func folderSource(img *Image, folders []string) *Source {
	return &Source{Image: img, Trusted: true, Open: func(_ context.Context, i int) (*Content, error) {
		return &Content{Folder: &Folder{Path: folders[i], Overlay: true}}, nil
	}}
}

// chainID is the name of a layer on top of others (OCI image-spec, config.md).
func chainID(below, diffID string) (string, error) {
	h, err := digestHex(diffID)
	if err != nil || below == "" {
		return h, err
	}
	sum := sha256.Sum256([]byte("sha256:" + below + " " + diffID))
	return hex.EncodeToString(sum[:]), nil
}
