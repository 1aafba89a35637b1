package intel

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// source is one publisher's data set: where it is and how its file is read
// into the writer. Each is taken up, kept and told of by itself.
type source struct {
	name    string
	url     string
	limit   int64
	licence string
	// optional sources are those that nobody asked for by name: one that a
	// mirror does not have, and never had, is no failure.
	optional bool
	// pointer, if any, finds the next address in what the one before holds; after
	// hops of them it is the file's.
	pointer func(base, text string) (address string, err error)
	hops    int
	changes *changes // nil when the publisher lists none
	// read returns the publisher's own newest change, or zero.
	read func(ctx context.Context, w *writer, file *os.File, note *notes) (time.Time, error)
}

// changes is a publisher's list of its records and when they changed, by which
// an update reads the changed ones only.
type changes struct {
	url  string
	list func(file *os.File) ([]feed.Change, error)
	// whole says that the list names every record: those it lacks are gone.
	whole  bool
	record func(path string) (address string)
	id     func(path string) (record string)
	// read takes up one record.
	read func(ctx context.Context, w *writer, data []byte, note *notes) error
}

// notes collects what a reader left out.
type notes struct {
	skipped  int
	examples []string
}

const maxExamples = 5

func (n *notes) skip(name string, err error) {
	n.skipped++
	if len(n.examples) < maxExamples {
		n.examples = append(n.examples, fmt.Sprintf("%s: %v", name, err))
	}
}

// check notes what of an advisory cannot be judged; the rest of it can.
func (n *notes) check(a vuln.Advisory, keep func(string) bool) {
	for i := range a.Affected {
		x := &a.Affected[i]
		order, ok := vuln.OrderOf(x.Ecosystem)
		if !ok || !keep(x.Ecosystem) {
			continue
		}
		if err := x.Check(order); err != nil {
			n.skip(a.ID, err)
			return
		}
	}
}

// place joins a base address and path elements.
func place(base *url.URL, elem ...string) string { return base.JoinPath(elem...).String() }

// mirrorOf reads the address of a mirror; nil when there is none.
func mirrorOf(base string) (*url.URL, error) {
	if base == "" {
		return nil, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", base, err)
	}
	if u.Scheme == "" || u.Scheme != "file" && u.Host == "" {
		return nil, fmt.Errorf("source %q: not an address such as https://mirror.example/advisories or file:///mnt/advisories", base)
	}
	if err := checkURL(u); err != nil {
		return nil, fmt.Errorf("source %w", err)
	}
	return u, nil
}
