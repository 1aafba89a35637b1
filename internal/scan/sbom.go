package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/breakwater-sec/breakwater/internal/inventory/sbom"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// readDocument is the child's part: it parses.
func (c *child) readDocument() error {
	data, err := io.ReadAll(io.LimitReader(os.NewFile(source, "document"), sbom.MaxSize+1))
	if err != nil {
		return err
	}
	doc, err := sbom.Parse(data, engineOf(c.Key))
	if err != nil {
		return err
	}
	c.out.send(message{SBOM: doc})
	return nil
}

// readDocument is the parent's part.
func (t Target) readDocument(ctx context.Context, r *reading) (*report.Report, error) {
	f, err := os.Open(t.name)
	if err != nil {
		return nil, errors.Unwrap(err) // the path stands in front already
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("is a folder")
	}
	got, err := newSession(r.Options, request{Read: readSBOM, Key: r.key}).run(ctx, f)
	if err != nil {
		return nil, err
	}
	if got.sbom == nil {
		return nil, errors.New("the confined reader gave no answer; please report it")
	}
	return &report.Report{
		Image: got.sbom.Image, Distro: report.Distro(got.sbom.Distro), Packages: got.sbom.Packages, Gaps: got.sbom.Gaps,
		Notes: append(got.notes, fmt.Sprintf("read from a document (%s): what it does not list is not seen", clean(got.sbom.Format))),
	}, nil
}
