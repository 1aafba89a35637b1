// Package inventory turns the files of an image into the packages that they
// prove. It holds the engine: which driver wants which file, what each layer
// brought, and what is left when later layers are laid over earlier ones. The
// drivers, one small package per ecosystem, are beside it; package drivers
// lists them.
package inventory

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Info is what Wants may look at besides the path.
type Info struct {
	Size       int64
	Executable bool // any execute bit
}

// File is one regular file of a layer.
type File struct {
	Path string // relative to the image's root, clean
	Info
	// Content is read at most once, from the start; it need not be read to the
	// end. Where the image's source allows it, it is an io.ReaderAt too.
	Content io.Reader
}

// A Driver finds the packages of one ecosystem. Its methods are called from
// several goroutines at once and keep no state. Everything it reads is hostile:
// it bounds what it takes into memory ([ReadAll] does so).
type Driver interface {
	// Wants says whether the file is evidence. It is called for every file of
	// every layer, so it only looks at its arguments and does not allocate.
	Wants(path string, info Info) bool
	// Extract lists the installed packages that the file proves. Name and
	// Version are never empty in its result. It returns what it found beside
	// an error; the error becomes a gap of the report, so it says in one
	// clause what could not be read. A file that is no evidence after all
	// gives no packages and no error.
	Extract(f File) ([]event.Package, error)
}

// Placer is a Driver whose packages mean something only inside a
// distribution: their ecosystem and purl depend on it.
type Placer interface {
	Place(p *event.Package, d Distro)
}

// Distro is the distribution an image is made of, from its os-release.
type Distro struct {
	ID       string
	Version  string
	Codename string
	Name     string
	// EndOfLife is when its publisher's support ended or ends; zero when unknown.
	EndOfLife time.Time
}

// ErrTooLarge is in the error of ReadAll for a file beyond the bound.
var ErrTooLarge = errors.New("too large")

// ReadAll reads a whole file of at most limit bytes.
func ReadAll(f File, limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, fmt.Errorf("%w: %d bytes, %d are read at most", ErrTooLarge, f.Size, limit)
	}
	data := make([]byte, f.Size)
	n, err := io.ReadFull(f.Content, data)
	if err != nil {
		return nil, fmt.Errorf("ends after %d of %d bytes", n, f.Size)
	}
	return data, nil
}
