package executable

import (
	"bytes"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/cargo"
	"github.com/breakwater-sec/breakwater/internal/inventory/program"
)

const maxAudit = 8 << 20 // bytes of packed audit data

// watcher looks at a file that goes by, in windows that overlap, and keeps the
// audit data of a Rust program once it has come to it.
type watcher struct {
	search *program.Search // nil when the file's name is no known program's
	done   bool            // of the search
	buf    []byte
	audit  []byte // where it begins, and what follows
	traces cargo.Traces
}

// Write never fails.
func (w *watcher) Write(p []byte) (int, error) {
	n := len(p)
	if w.buf == nil {
		w.buf = make([]byte, 0, window)
	}
	for len(p) > 0 {
		take := min(len(p), window-len(w.buf))
		if len(w.audit) > 0 {
			w.keep(p[:take])
		}
		w.buf = append(w.buf, p[:take]...)
		p = p[take:]
		if len(w.buf) == window {
			w.look()
			tail := copy(w.buf, w.buf[window-overlap:])
			w.buf = w.buf[:tail]
		}
	}
	return n, nil
}

func (w *watcher) look() {
	if w.search != nil && !w.done {
		w.done = w.search.Window(w.buf)
	}
	if w.search == nil {
		w.traces.Window(w.buf)
	}
	if len(w.audit) == 0 {
		if i := cargo.Find(w.buf); i >= 0 {
			w.keep(w.buf[i:])
		}
	}
}

func (w *watcher) keep(p []byte) {
	w.audit = append(w.audit, p[:min(len(p), maxAudit-len(w.audit))]...)
}

// packages is what was found when the whole file has gone by.
func (w *watcher) packages() ([]event.Package, error) {
	w.look()
	var out []event.Package
	var err error
	if len(w.audit) > 0 {
		out, err = cargo.Audit(bytes.NewReader(w.audit))
	}
	if w.search != nil {
		out = append(out, w.search.Packages()...)
	} else if len(out) == 0 && err == nil {
		out = w.traces.Packages()
	}
	return out, err
}
