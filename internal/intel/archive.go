package intel

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

// The members of archives that are written and taken in. A bundle's archive is
// a tar in zstd of its three files; a delta's holds the new bundle's manifest
// and signature, and what makes the old database the new one.
const (
	deltaName          = "delta.json"
	deltaSignatureName = "delta.sig"
	deltaDBName        = "delta.db"
	trivyName          = "trivy.db"
	trivyMetadataName  = "metadata.json"
	grypeName          = "vulnerability.db"
)

// maxImported bounds a database that is unpacked for import. Grype's was about
// 2 GB in 2026.
const maxImported = 16 << 30

// Export writes the bundle in use as one file, which Import takes on any host
// that trusts the same key.
func Export(ctx context.Context, data string, w io.Writer) (Manifest, error) {
	dir, err := currentFolder(data)
	if err != nil {
		return Manifest{}, err
	}
	m, err := verifyFolder(data, dir)
	if err != nil {
		return Manifest{}, err
	}
	var paths []string
	for _, name := range []string{manifestName, signatureName, dbName} {
		paths = append(paths, filepath.Join(dir, name))
	}
	return m, writeArchive(ctx, w, paths)
}

// writeArchive writes files under their base names. The same files give the
// same bytes.
func writeArchive(ctx context.Context, w io.Writer, paths []string) error {
	// One goroutine: the split into blocks must not depend on the machine.
	packed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	archive := tar.NewWriter(packed)
	for _, p := range paths {
		if err := addFile(ctx, archive, p); err != nil {
			return errors.Join(fmt.Errorf("write the archive: %w", err), packed.Close())
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

func addFile(ctx context.Context, archive *tar.Writer, p string) error {
	file, err := os.Open(p)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: filepath.Base(p), Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if info.Size() >= 8<<30 {
		header.Format = tar.FormatPAX
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, contextReader{ctx, file})
	return err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// unpackTo unpacks the known members of an archive into dir and names them; a
// file that is no archive becomes the member that its first bytes say it is, or
// "list".
func unpackTo(ctx context.Context, r io.Reader, dir string) ([]string, error) {
	plain, err := feed.Unpack(contextReader{ctx, r}, maxImported)
	if err != nil {
		return nil, err
	}
	defer func() { _ = plain.Close() }() // only read
	in := bufio.NewReaderSize(plain, 1<<16)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(head) < 512 || string(head[257:262]) != "ustar" {
		name := nameByContent(head)
		return []string{name}, saveMember(in, filepath.Join(dir, name))
	}
	members := []string{manifestName, signatureName, dbName, deltaName, deltaSignatureName, deltaDBName, trivyName, trivyMetadataName, grypeName}
	var found []string
	archive := tar.NewReader(in)
	for range 1000 {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Base(header.Name)
		if header.Typeflag != tar.TypeReg || !slices.Contains(members, name) || slices.Contains(found, name) {
			continue
		}
		if err := saveMember(archive, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		found = append(found, name)
	}
	return nil, errors.New("the archive holds more than 1000 files")
}

func saveMember(r io.Reader, path string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, r)
	return err
}

// nameByContent tells an SQLite file, a bbolt file and anything else apart.
func nameByContent(head []byte) string {
	switch {
	case len(head) > 16 && string(head[:16]) == "SQLite format 3\x00":
		return grypeName
	case len(head) > 20 && string(head[16:20]) == "\xed\xda\x0c\xed": // a bbolt page's meta
		return trivyName
	}
	return "list"
}
