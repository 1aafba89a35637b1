package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// place is somewhere that an image can be looked for by name.
type place struct {
	kind string
	read func(ctx context.Context, r *reading, name string) (*report.Report, error)
	// there says whether it is worth asking when nobody asked for it.
	there func(o *Options) bool
}

// places are asked in this order.
func places() []place {
	return []place{
		{fromDocker, readDocker, func(o *Options) bool { return o.Engine != DefaultEngine || exists(o.Engine) }},
		{fromContainerd, readContainerd, func(o *Options) bool { return exists(o.Containerd) }},
		{fromPodman, readPodman, func(o *Options) bool { return exists(o.Storage) }},
		{fromRegistry, readRegistry, func(*Options) bool { return true }},
	}
}

func exists(path string) bool {
	_, err := os.Stat(strings.TrimPrefix(path, "unix://"))
	return err == nil
}

// readNamed asks one place when the target names it, else all in turn. The
// first that has the image is believed; an engine that does not answer is
// passed over.
func (t Target) readNamed(ctx context.Context, r *reading) (*report.Report, error) {
	var failures []string
	for _, p := range places() {
		if t.kind != "" && t.kind != p.kind || t.kind == "" && !p.there(&r.Options) {
			continue
		}
		rep, err := p.read(ctx, r, t.name)
		if err == nil {
			return rep, nil
		}
		if t.kind != "" || p.kind == fromRegistry || ctx.Err() != nil || !image.NotFound(err) && !image.Unreachable(err) {
			return nil, after(failures, err)
		}
		failures = append(failures, err.Error())
	}
	return nil, errors.New(strings.Join(failures, "; "))
}

// after puts what was tried before in front of an error.
func after(failures []string, err error) error {
	if len(failures) == 0 {
		return err
	}
	return fmt.Errorf("%s; %w", strings.Join(failures, "; "), err)
}

func readContainerd(ctx context.Context, r *reading, name string) (*report.Report, error) {
	c, err := image.OpenContainerd(r.Containerd)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	src, err := c.Open(ctx, name, r.Platform, r.Limits)
	if err != nil {
		return nil, err
	}
	return r.source(ctx, src)
}

func readPodman(ctx context.Context, r *reading, name string) (*report.Report, error) {
	src, err := image.Storage{Path: r.Storage}.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.source(ctx, src)
}

func readRegistry(ctx context.Context, r *reading, name string) (*report.Report, error) {
	src, err := r.Registry.Open(ctx, name, r.Platform, r.Limits)
	if err != nil {
		return nil, err
	}
	return r.source(ctx, src)
}

// readDocker reads an image where the engine keeps it, when this process may;
// else it streams the engine's export into the child through a pipe.
func readDocker(ctx context.Context, r *reading, name string) (*report.Report, error) {
	engine, err := image.OpenDocker(r.Engine)
	if err != nil {
		return nil, err
	}
	defer func() { _ = engine.Close() }()
	found, err := engine.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	rep, err := readInPlace(ctx, r, engine, found)
	if errors.Is(err, image.ErrNotInPlace) || errors.Is(err, fs.ErrNotExist) {
		rep, err = readExport(ctx, r, engine, found)
	}
	if err != nil {
		return nil, err
	}
	rep.Image.References = found.References
	if rep.Image.Digest != found.Digest && found.ConfigDigest {
		return nil, fmt.Errorf("docker (%s) exported the content %s instead of %s", r.Engine, rep.Image.Digest, found.Digest)
	}
	return rep, nil
}

func readInPlace(ctx context.Context, r *reading, engine *image.Docker, found image.Found) (*report.Report, error) {
	src, err := engine.Open(found)
	if err != nil {
		return nil, err
	}
	return r.source(ctx, src)
}

func readExport(ctx context.Context, r *reading, engine *image.Docker, found image.Found) (*report.Report, error) {
	export, err := engine.Export(ctx, found.Digest)
	if err != nil {
		return nil, err
	}
	defer export.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(pw, export)
		copied <- errors.Join(err, pw.Close())
	}()
	r.expected = found.DiffIDs
	rep, err := r.archive(ctx, pr, request{Read: readStream})
	pr.Close() // ends the copy with EPIPE when the child stopped early
	if copyErr := <-copied; err != nil && copyErr != nil && !isPipeError(copyErr) {
		return nil, fmt.Errorf("docker (%s) broke off its export: %w", r.Engine, copyErr)
	}
	if err != nil {
		return nil, err
	}
	rep.Integrity = report.FromEngine
	return rep, nil
}
