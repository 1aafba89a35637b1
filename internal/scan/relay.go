package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/malware"
)

// Scanner looks for malware in the content of one file. It runs in the parent,
// because it needs the network or a socket, which the child that reads the
// image must not have: the child sends content over a socket pair and gets a
// name back. It is called from several goroutines.
type Scanner interface {
	// Scan reads content to its end, or gives an error that says why not:
	// malware.ErrLimit when only this file is too much for the engine.
	Scan(ctx context.Context, content io.Reader) (name string, found bool, err error)
	// Engine is its name: clamav.
	Engine() string
	// Version changes whenever the same bytes could give another result.
	Version() string
	// Describe is the version for people, with the date of what it knows.
	Describe() string
}

// The relay's frames: a length (32 bits, little endian), then as much content;
// length 0 ends the file. The answer is one byte, a length and a text.
const (
	relayFrame   = 64 << 10
	relayText    = 1000 // bytes of a name or an error
	answerClean  = 0
	answerFound  = 1
	answerFailed = 2 // the engine did
	answerLimit  = 3 // the file is too much for it
)

// relay is the child's end of the connections to the parent's Scanner.
type relay struct {
	engine string
	free   chan io.ReadWriter
}

func newRelay(engine string, fds []int) *relay {
	r := &relay{engine: engine, free: make(chan io.ReadWriter, len(fds))}
	for _, fd := range fds {
		r.free <- os.NewFile(uintptr(fd), "scanner")
	}
	return r
}

// maxScanned is the largest file that a scanner is given; clamd's own default
// limit for a stream is less.
const maxScanned = 512 << 20

// Wants everything that is not empty: malware hides in documents too.
func (r *relay) Wants(_ string, size int64, _ bool) bool { return size > 0 }

// Stream implements Streamer.
func (r *relay) Stream(_ string, size int64) (io.Writer, func() (event.Content, error)) {
	if size > maxScanned {
		return io.Discard, func() (event.Content, error) {
			return event.Content{}, fmt.Errorf("is larger than %d bytes, the limit of the malware scan", maxScanned)
		}
	}
	f := &relayed{conn: <-r.free}
	return f, func() (event.Content, error) {
		defer func() { r.free <- f.conn }()
		name, found, err := f.end()
		if err != nil || !found {
			return event.Content{Failed: err != nil && !errors.Is(err, malware.ErrLimit)}, err
		}
		return event.Content{Malware: []event.Malware{{Name: name, Engine: r.engine, Severity: malware.Severity(name)}}}, nil
	}
}

// relayed is one file on its way.
type relayed struct {
	conn io.ReadWriter
	err  error
}

func (f *relayed) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && f.err == nil {
		part := p[:min(len(p), relayFrame)]
		p = p[len(part):]
		f.err = writeFrame(f.conn, part)
	}
	return n, f.err
}

func writeFrame(w io.Writer, data []byte) error {
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(data)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func (f *relayed) end() (name string, found bool, err error) {
	if f.err == nil {
		f.err = writeFrame(f.conn, nil)
	}
	if f.err != nil {
		return "", false, f.err
	}
	var head [5]byte
	if _, err := io.ReadFull(f.conn, head[:]); err != nil {
		return "", false, err
	}
	text := make([]byte, min(binary.LittleEndian.Uint32(head[1:]), relayText))
	if _, err := io.ReadFull(f.conn, text); err != nil {
		return "", false, err
	}
	switch head[0] {
	case answerFailed:
		return "", false, errors.New(string(text))
	case answerLimit:
		return "", false, fmt.Errorf("%w: %s", malware.ErrLimit, text)
	}
	return string(text), head[0] == answerFound, nil
}

// serve is the parent's end: one file after another until the child is gone.
func serve(ctx context.Context, conn io.ReadWriter, s Scanner) error {
	for {
		frames := &frames{r: conn}
		if err := frames.next(); err != nil {
			return err
		}
		name, found, err := s.Scan(ctx, frames)
		// What the scanner left unread must go before the next file.
		if _, err := io.Copy(io.Discard, frames); err != nil {
			return err
		}
		kind, text := byte(answerClean), ""
		switch {
		case errors.Is(err, malware.ErrLimit):
			kind, text = answerLimit, strings.TrimPrefix(err.Error(), malware.ErrLimit.Error()+": ")
		case err != nil:
			kind, text = answerFailed, err.Error()
		case found:
			kind, text = answerFound, name
		}
		if err := answer(conn, kind, text); err != nil {
			return err
		}
	}
}

func answer(w io.Writer, kind byte, text string) error {
	text = text[:min(len(text), relayText)]
	out := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(text)))
	_, err := w.Write(append(out, text...))
	return err
}

var errFrame = errors.New("the confined reader sent a frame that is too long")

// frames is the content of one file.
type frames struct {
	r    io.Reader
	left uint32
	done bool
}

// next reads a frame's length.
func (f *frames) next() error {
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return err
	}
	f.left = binary.LittleEndian.Uint32(head[:])
	f.done = f.left == 0
	if f.left > relayFrame {
		return errFrame
	}
	return nil
}

func (f *frames) Read(p []byte) (int, error) {
	if f.left == 0 && !f.done {
		if err := f.next(); err != nil {
			return 0, fmt.Errorf("the confined reader ended: %w", err)
		}
	}
	if f.done {
		return 0, io.EOF
	}
	n, err := f.r.Read(p[:min(len(p), int(f.left))])
	f.left -= uint32(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// socketPair gives both ends as files; the first is the parent's.
func socketPair(kind int) (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child"), nil
}
