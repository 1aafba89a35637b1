package image

import (
	"context"
	"errors"
	"io"
	"os"
)

// Source is an image whose configuration is known and whose layers can be read
// one by one, in any order, several at once.
type Source struct {
	// Image has its layers' diff ids and steps; nothing of it is read yet.
	*Image
	// Open gives the content of layer i; nil when it has none of its own.
	Open func(ctx context.Context, i int) (*Content, error)
	// Trusted: the layers are those that the diff ids name by the word of an
	// engine that checked them when it stored them. Otherwise a reader hashes them.
	Trusted bool
	// Mixed: what Open gives is not exactly the layer that the diff id names, so
	// nothing may be kept under it.
	Mixed bool
	// Blobs are the digests of the layers' bytes as they are stored or sent, named
	// by a manifest that was hashed; nil for sources that have none. A stream that
	// Open gives fails when it is not what its digest names; a file is the
	// caller's to hash.
	Blobs []string
	Notes []string
	close func() error
}

// Close gives back what the source holds open.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// Content is what one layer is made of: exactly one of File, Stream and Folder.
type Content struct {
	File   *os.File // regular, read from its beginning
	Size   int64    // of File
	Stream io.ReadCloser
	Folder *Folder
}

// notFoundError is an engine or registry that does not have an image.
type notFoundError struct{ where string }

func (e *notFoundError) Error() string { return "not found in " + e.where }

// NotFound says whether err means that the image is not there, so that
// somebody else may have it.
func NotFound(err error) bool {
	var e *notFoundError
	return errors.As(err, &e)
}

// unreachableError is an engine that does not answer.
type unreachableError struct {
	text string
	err  error
}

func (e *unreachableError) Error() string { return e.text }
func (e *unreachableError) Unwrap() error { return e.err }

// Unreachable says whether err means that an engine does not answer.
func Unreachable(err error) bool {
	var e *unreachableError
	return errors.As(err, &e)
}
