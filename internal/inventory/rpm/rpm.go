// Package rpm finds the packages of RPM's database, in each of its three forms:
// SQLite (rpmdb.sqlite), a Berkeley DB hash (Packages) and RPM's own ndb
// (Packages.db). All three are read here directly, page by page: the reader
// runs where no file can be opened, so no database library would do.
package rpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Limits: what lies beyond them is an error, so a gap.
const (
	maxBuffered = 64 << 20  // bytes of a database taken into memory
	maxSize     = 512 << 20 // bytes of a database that can be read at offsets
	maxHeader   = 64 << 20  // bytes of one package's header
	maxHeaders  = 100_000
)

// Driver is the inventory's driver for RPM.
type Driver struct{}

// The databases by their names.
const (
	sqliteName = "rpmdb.sqlite"
	walName    = "rpmdb.sqlite-wal"
	hashName   = "Packages"
	ndbName    = "Packages.db"
)

// Names of the databases, and of SQLite's log of what is not in it yet.
func (Driver) Names() []string { return []string{sqliteName, walName, hashName, ndbName} }

// Wants a database in one of the folders where distributions keep it.
func (Driver) Wants(path string, info inventory.Info) bool {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return false
	}
	switch path[:i] {
	case "var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm":
	default:
		return false
	}
	switch path[i+1:] {
	case sqliteName, hashName, ndbName:
		return true
	case walName:
		return info.Size > 0
	}
	return false
}

// Extract lists the installed packages.
func (d Driver) Extract(f inventory.File) ([]event.Package, error) {
	return d.ExtractClaims(f, func(string, []byte) {})
}

var errLog = errors.New("changes of RPM's database are in its log only and were not read; run `rpm --rebuilddb` in the image's build")

// ExtractClaims implements inventory.Claimer.
func (Driver) ExtractClaims(f inventory.File, claim func(owner string, path []byte)) ([]event.Package, error) {
	name := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
	if name == walName {
		return nil, errLog
	}
	at, err := content(f)
	if err != nil {
		return nil, err
	}
	c := collection{claim: claim}
	db := file{at: at, size: f.Size}
	switch name {
	case hashName:
		err = db.hash(c.header)
	case ndbName:
		err = db.ndb(c.header)
	default:
		err = db.sqlite(c.header)
	}
	c.sources()
	if err == nil && c.bad > 0 {
		err = fmt.Errorf("%d packages are not usable, the first one: %w", c.bad, c.first)
	}
	return c.out, err
}

func content(f inventory.File) (io.ReaderAt, error) {
	if at, ok := f.Content.(io.ReaderAt); ok && f.Size <= maxSize {
		return at, nil
	}
	data, err := inventory.ReadAll(f, maxBuffered)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(data), nil
}

// file is a database.
type file struct {
	at   io.ReaderAt
	size int64
	read int64 // bytes of headers so far: a page that is used again and again ends here
}

var (
	errDamaged = errors.New("is a damaged RPM database")
	errMany    = fmt.Errorf("names more than %d packages, or more bytes than it has", maxHeaders)
)

// bytes reads n bytes at an offset.
func (f *file) bytes(offset, n int64) ([]byte, error) {
	if offset < 0 || n < 0 || n > maxHeader || offset > f.size-n {
		return nil, errDamaged
	}
	out := make([]byte, n)
	if _, err := f.at.ReadAt(out, offset); err != nil && (err != io.EOF) {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return out, nil
}

// spend accounts for content that was put together of pages: a sound database
// uses no byte of a page twice.
func (f *file) spend(n int64) error {
	if n > maxHeader {
		return errDamaged
	}
	if f.read += n; f.read > f.size {
		return errMany
	}
	return nil
}

// collection makes packages of headers.
type collection struct {
	claim func(owner string, path []byte)
	out   []event.Package
	bad   int
	first error
}

// header takes one package.
func (c *collection) header(data []byte) error {
	if len(c.out)+c.bad >= maxHeaders {
		return errMany
	}
	p, err := parseHeader(data, c.claim)
	if err != nil {
		if c.bad++; c.bad == 1 {
			c.first = err
		}
		return nil
	}
	if p.Name != "gpg-pubkey" { // a key of the publisher, in the place of a package
		c.out = append(c.out, p)
	}
	return nil
}

// sources gives source versions their epoch, which names of source packages do
// not hold: that of the package that has the source's name, else the highest
// of its packages.
func (c *collection) sources() {
	type source struct{ name, version string }
	epochs, named := map[source]string{}, map[source]bool{}
	for _, p := range c.out {
		epoch, _, ok := strings.Cut(p.Version, ":")
		if !ok {
			epoch = ""
		}
		s := source{p.Source, p.SourceVersion}
		switch {
		case p.Name == p.Source:
			epochs[s], named[s] = epoch, true
		case !named[s] && (len(epoch) > len(epochs[s]) || len(epoch) == len(epochs[s]) && epoch > epochs[s]):
			epochs[s] = epoch
		}
	}
	for i := range c.out {
		p := &c.out[i]
		s := source{p.Source, p.SourceVersion}
		if epoch := epochs[s]; p.Source != "" && epoch != "" {
			p.SourceVersion = epoch + ":" + p.SourceVersion
		}
		if p.Source == p.Name {
			p.Source = ""
		}
		if p.SourceVersion == p.Version {
			p.SourceVersion = ""
		}
	}
}

// Place names the ecosystem and gives the purl its distribution.
func (Driver) Place(p *event.Package, d inventory.Distro) {
	p.Ecosystem = d.Ecosystem("rpm")
	epoch, version, ok := strings.Cut(p.Version, ":")
	if !ok {
		epoch, version = "", p.Version
	}
	p.PURL = purl.System(packageurl.TypeRPM, d.ID, d.Version, p.Name, version, p.Arch, "epoch", epoch)
}
