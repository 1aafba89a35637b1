package scan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// Target is where an image is.
type Target struct {
	kind string // one of the kinds below; "" for a name that is looked for in turn
	name string // what stands behind the kind, as the user wrote it
	want string // which image of an archive or layout
}

// The kinds of targets, as they stand before the colon.
const (
	fromDocker     = "docker"
	fromContainerd = "containerd"
	fromPodman     = "podman"
	fromRegistry   = "registry"
	fromArchive    = "docker-archive"
	fromOCIArchive = "oci-archive"
	fromLayout     = "oci-layout"
	fromFolder     = "dir"
	fromHost       = "host"
	fromSBOM       = "sbom"
)

var targetKinds = []string{fromDocker, fromContainerd, fromPodman, fromRegistry, fromArchive, fromOCIArchive, fromLayout, fromFolder, fromHost, fromSBOM}

// Registry is the registry that the name speaks of, "" when there is none: what
// an archive says of itself is nobody's choice.
func (t Target) Registry() string {
	switch t.kind {
	case "", fromDocker, fromContainerd, fromPodman, fromRegistry:
		return image.RegistryOf(t.name)
	}
	return ""
}

// proven is the image without the digests that it only says it has: an archive
// can claim any, and statements on a digest count wherever the digest is.
func (t Target) proven(i event.Image) event.Image {
	switch t.kind {
	case fromArchive, fromOCIArchive, fromLayout:
		i.References = slices.DeleteFunc(slices.Clone(i.References), func(reference string) bool {
			_, digest, ok := strings.Cut(reference, "@")
			return ok && !slices.Contains(i.Pinned, digest)
		})
	}
	return i
}

func (t Target) String() string {
	switch t.kind {
	case fromArchive, fromOCIArchive:
		return fmt.Sprintf("archive %q", t.name)
	case fromLayout:
		return fmt.Sprintf("layout %q", t.name)
	case fromFolder:
		return fmt.Sprintf("folder %q", t.name)
	case fromSBOM:
		return fmt.Sprintf("document %q", t.name)
	case fromHost:
		return "host"
	}
	return fmt.Sprintf("image %q", t.name)
}

// ParseTarget reads a target: KIND:NAME with one of
//
//	docker, containerd, podman  an image of that engine on this host
//	registry                    a reference; the registry is asked
//	docker-archive, oci-archive FILE[:REFERENCE]
//	oci-layout                  FOLDER[:REFERENCE]
//	dir                         a folder that holds a root file system
//	sbom                        a CycloneDX, SPDX or Syft document in JSON
//	host                        this host itself; nothing follows the colon
//
// or a path that ends like an archive, or a name, which is looked for in the
// engines of this host and then in its registry. What ends like an archive is
// one when it exists, or when it could not be a name with a tag.
func ParseTarget(s string) (Target, error) {
	if s == "" {
		return Target{}, errors.New("no target: name an image, or an archive as docker-archive:FILE")
	}
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok || !slices.Contains(targetKinds, kind):
		if isArchive(s) {
			return Target{kind: fromArchive, name: s}, nil
		}
		return Target{name: s}, nil
	case kind == fromHost && rest != "":
		return Target{}, fmt.Errorf("target %q: nothing may follow the colon of host", s)
	case kind == fromHost:
		return Target{kind: kind}, nil
	case rest == "":
		return Target{}, fmt.Errorf("target %q: nothing after the colon", s)
	case kind == fromArchive, kind == fromOCIArchive, kind == fromLayout:
		path, want := splitPath(rest)
		return Target{kind: kind, name: path, want: want}, nil
	}
	return Target{kind: kind, name: rest}, nil
}

// splitPath: a colon belongs to the path when such a file exists.
func splitPath(s string) (path, want string) {
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
	r := newReading(o)
	switch t.kind {
	case fromArchive, fromOCIArchive:
		return t.readArchive(ctx, r)
	case fromLayout:
		return t.open(ctx, r, func() (*image.Source, error) {
			return image.OpenLayout(ctx, t.name, image.Choice{Name: t.want, Platform: o.Platform}, o.Limits)
		})
	case fromFolder:
		return t.open(ctx, r, func() (*image.Source, error) { return image.OpenFolder(t.name) })
	case fromHost:
		return t.readHost(ctx, r)
	case fromSBOM:
		return t.readDocument(ctx, r)
	}
	return t.readNamed(ctx, r)
}

// readHost reads this host. Its kernel runs whatever is installed: when no
// package holds the running one, nothing was said about it.
func (t Target) readHost(ctx context.Context, r *reading) (*report.Report, error) {
	rep, err := t.open(ctx, r, image.OpenHost)
	if err != nil {
		return nil, err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, err
	}
	release := unix.ByteSliceToString(name.Release[:])
	if !slices.ContainsFunc(rep.Packages, func(p event.Package) bool { return holdsKernel(p, release) }) {
		rep.Gaps = append(rep.Gaps, fmt.Sprintf("the running kernel (%s) is in no package of this host: its vulnerabilities were not judged", release))
	}
	return rep, nil
}

// holdsKernel: Debian and Ubuntu have the release in the package's name, the
// others in its version.
func holdsKernel(p event.Package, release string) bool {
	switch {
	case p.Name == "linux-image-"+release, p.Name == "linux-image-unsigned-"+release:
		return true
	case p.Name == "kernel-core" || p.Name == "kernel" || p.Name == "kernel-default":
		return strings.HasPrefix(release, p.Version)
	case strings.HasPrefix(p.Name, "linux-"): // Alpine: linux-lts 6.6.1-r0 is 6.6.1-0-lts
		flavour := strings.TrimPrefix(p.Name, "linux-")
		return strings.HasSuffix(release, "-"+flavour) && strings.HasPrefix(release, strings.Replace(p.Version, "-r", "-", 1))
	}
	return false
}

// open reads whatever source it opens.
func (t Target) open(ctx context.Context, r *reading, open func() (*image.Source, error)) (*report.Report, error) {
	src, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }() // it was only read
	return r.source(ctx, src)
}

func (t Target) readArchive(ctx context.Context, r *reading) (*report.Report, error) {
	f, err := os.Open(t.name)
	if err != nil {
		return nil, errors.Unwrap(err) // the path stands in front already
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a folder, not an archive; make one with `docker save -o FILE IMAGE`, or name an OCI layout with oci-layout:FOLDER")
	}
	req := request{Read: readArchive, Want: t.want, Size: info.Size(), Verify: r.Verify, Apart: r.Verify}
	if !info.Mode().IsRegular() {
		req.Read = readStream
	}
	rep, err := r.archive(ctx, f, req)
	if err == nil && r.Verify {
		rep.Integrity = report.Hashed
	}
	return rep, err
}
