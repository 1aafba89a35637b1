package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// errExtent is a reader that names a place outside of the archive.
var errExtent = errors.New("does not lie in the archive where its reader says")

// Proof hashes the config and the layers of an image where they lie in the
// archive r of size bytes, and says by which digest each layer was proven: its
// diff id when it is plain, else that of its compressed bytes. It parses nothing
// but the config's JSON and so believes nothing of what another process read out
// of the archive. An error: the archive does not hold what img says.
func Proof(ctx context.Context, r io.ReaderAt, size int64, img *Image, limits Limits) ([]string, error) {
	if err := img.proveConfig(ctx, r, size, limits.withDefaults()); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	digests := make([]string, len(img.Layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, l := range img.Layers {
		g.Go(func() (err error) {
			if digests[i], err = l.At.digest(ctx, r, size); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			if l.Plain && digests[i] != l.DiffID {
				return fmt.Errorf("layer %d: its content has the digest %s, the config names %s: the archive is damaged or forged", i, digests[i], l.DiffID)
			}
			return nil
		})
	}
	return digests, g.Wait()
}

func (img *Image) proveConfig(ctx context.Context, r io.ReaderAt, size int64, limits Limits) error {
	if img.ConfigAt.Size > limits.Metadata {
		return &LimitError{"bytes of metadata", limits.Metadata}
	}
	digest, err := img.ConfigAt.digest(ctx, r, size)
	if err != nil {
		return err
	}
	if digest != img.Digest {
		return fmt.Errorf("its content has the digest %s, not %s", digest, img.Digest)
	}
	data := make([]byte, img.ConfigAt.Size)
	if _, err := r.ReadAt(data, img.ConfigAt.Offset); err != nil && err != io.EOF {
		return err
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if !slices.EqualFunc(c.RootFS.DiffIDs, img.Layers, func(id string, l Layer) bool { return id == l.DiffID }) {
		return errors.New("its layers are not those that were read")
	}
	return nil
}

// digest is that of the bytes as they lie there.
func (e Extent) digest(ctx context.Context, r io.ReaderAt, size int64) (string, error) {
	if e.Offset < 0 || e.Size <= 0 || e.Offset > size || e.Size > size-e.Offset {
		return "", errExtent
	}
	return Digest(ctx, io.NewSectionReader(r, e.Offset, e.Size))
}

// Digest hashes r to its end, unless ctx ends first.
func Digest(ctx context.Context, r io.Reader) (string, error) {
	hash, buf := sha256.New(), make([]byte, blockSize)
	for {
		n, err := r.Read(buf)
		hash.Write(buf[:n])
		if err == io.EOF {
			return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return "", err
		}
	}
}
