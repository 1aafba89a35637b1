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

// Target is where an image is.
type Target struct {
	name    string // in a local engine, as the user wrote it
	archive string // or the path of an archive
	want    string // which image of the archive
}

func (t Target) String() string {
	if t.archive != "" {
		return fmt.Sprintf("archive %q", t.archive)
	}
	return fmt.Sprintf("image %q", t.name)
}

// ParseTarget reads a target: docker-archive:FILE[:REFERENCE], docker:NAME, a
// path that ends like an archive, or a name in the local engine. What ends like
// an archive is one when it exists, or when it could not be a name with a tag.
func ParseTarget(s string) (Target, error) {
	if s == "" {
		return Target{}, errors.New("no target: name an image, or an archive as docker-archive:FILE")
	}
	kind, rest, ok := strings.Cut(s, ":")
	if ok && rest == "" && (kind == "docker-archive" || kind == "docker") {
		return Target{}, fmt.Errorf("target %q: nothing after the colon", s)
	}
	switch {
	case ok && kind == "docker-archive":
		path, want := splitArchive(rest)
		return Target{archive: path, want: want}, nil
	case ok && kind == "docker":
		return Target{name: rest}, nil
	case ok && (kind == "oci-archive" || kind == "oci-layout" || kind == "dir" || kind == "sbom"):
		return Target{}, fmt.Errorf("target %q: %s: is not read by this version; use an image of a local engine or docker-archive:FILE", s, kind)
	case isArchive(s):
		return Target{archive: s}, nil
	}
	return Target{name: s}, nil
}

// splitArchive: a colon belongs to the path when such a file exists.
func splitArchive(s string) (path, want string) {
	if _, err := os.Stat(s); err == nil {
		return s, ""
	}
	for i, c := range s {
		if c != ':' {
			continue
		}
		if _, err := os.Stat(s[:i]); err == nil {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isArchive(s string) bool {
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
		if strings.HasSuffix(s, suffix) {
			info, err := os.Stat(s)
			return err == nil && !info.IsDir() || errors.Is(err, fs.ErrNotExist) && !strings.Contains(s, ":")
		}
	}
	return false
}

func (t Target) read(ctx context.Context, o Options) (*report.Report, error) {
	if t.archive != "" {
		return t.readArchive(ctx, o)
	}
	return t.readEngine(ctx, o)
}

func (t Target) readArchive(ctx context.Context, o Options) (*report.Report, error) {
	f, err := os.Open(t.archive)
	if err != nil {
		return nil, errors.Unwrap(err) // the path stands in front already
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a folder, not an archive; make one with `docker save -o FILE IMAGE`")
	}
	req := request{Want: t.want, Limits: o.Limits, Size: info.Size(), Stream: !info.Mode().IsRegular(), Verify: o.Verify}
	rep, err := confined(ctx, req, f, o)
	if err == nil && o.Verify {
		rep.Integrity = report.Hashed
	}
	return rep, err
}

// readEngine streams the engine's export into the child through a pipe.
func (t Target) readEngine(ctx context.Context, o Options) (*report.Report, error) {
	engine, err := image.OpenDocker(o.Engine)
	if err != nil {
		return nil, err
	}
	defer func() { _ = engine.Close() }()
	found, err := engine.Find(ctx, t.name)
	if err != nil {
		return nil, err
	}
	export, err := engine.Export(ctx, found.Digest)
	if err != nil {
		return nil, err
	}
	defer export.Close()
	rep, err := t.readExport(ctx, o, export)
	if err != nil {
		return nil, err
	}
	rep.Image.References, rep.Integrity = found.References, report.FromEngine
	if rep.Image.Digest != found.Digest && found.ConfigDigest {
		return nil, fmt.Errorf("docker (%s) exported the content %s instead of %s", o.Engine, rep.Image.Digest, found.Digest)
	}
	return rep, nil
}

func (t Target) readExport(ctx context.Context, o Options, export io.Reader) (*report.Report, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, export)
		copied <- errors.Join(err, w.Close())
	}()
	rep, err := confined(ctx, request{Limits: o.Limits, Stream: true}, r, o)
	r.Close() // ends the copy with EPIPE when the child stopped early
	if copyErr := <-copied; err != nil && copyErr != nil && !isPipeError(copyErr) {
		return nil, fmt.Errorf("docker (%s) broke off its export: %w", o.Engine, copyErr)
	}
	return rep, err
}
