package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/image"
)

// openLayers is how many layers are read at once.
const openLayers = 4

// feeder hands the layers of a source to a child one by one.
type feeder struct {
	src     *image.Source
	wants   func(image.Entry) bool
	limits  image.Limits
	control *os.File
	slots   chan struct{}   // one for each layer that is open
	hashing context.Context // of files: to the end, whatever the child made of them
	busy    sync.WaitGroup

	mu   sync.Mutex
	err  error // the first of this side
	gaps []string
}

// readSource reads the layers of src that todo lists.
func readSource(ctx context.Context, s *session, src *image.Source, todo []int) (outcome, error) {
	hashing, stopHashing := context.WithCancel(ctx)
	defer stopHashing()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	control, child, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return outcome{}, err
	}
	defer child.Close()
	p, err := newPass(s.request.Key, s.request.Look, s.request.Content, tools{}) // only asked what it wants
	if err != nil {
		return outcome{}, errors.Join(err, control.Close())
	}
	f := &feeder{src: src, wants: p.wants, limits: s.o.Limits, control: control, hashing: hashing, slots: make(chan struct{}, openLayers)}
	s.request.Read, s.request.Layers, s.request.Verify = readLayers, len(todo), !src.Trusted && !src.Mixed
	// A layer's slot is free when its result is there.
	s.onLayer = func(*layerResult) {
		select {
		case <-f.slots:
		default: // more results than orders: found out below
		}
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		defer control.Close()
		f.feed(ctx, todo)
		if f.failed() {
			cancel()
		}
	}()
	got, err := s.run(ctx, child)
	cancel()
	if err != nil {
		stopHashing()
	}
	child.Close() // with the descriptors that nobody took: whoever feeds them is let go
	<-fed
	f.busy.Wait()
	if f.err != nil && (err == nil || !errors.Is(f.err, errGone)) {
		return got, f.err
	}
	got.gaps = append(got.gaps, f.gaps...)
	return got, err
}

var errGone = errors.New("the confined reader is gone")

func (f *feeder) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *feeder) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}

func (f *feeder) feed(ctx context.Context, todo []int) {
	for _, i := range todo {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if f.failed() {
			return
		}
		if err := f.layer(ctx, i); err != nil {
			f.fail(fmt.Errorf("layer %d: %w", i, err))
			return
		}
	}
}

// layer opens one layer and orders the child to read it.
func (f *feeder) layer(ctx context.Context, i int) error {
	content, err := f.src.Open(ctx, i)
	if err != nil {
		return err
	}
	switch {
	case content.File != nil:
		return f.file(i, content)
	case content.Folder != nil:
		return f.folder(ctx, i, *content.Folder)
	}
	return f.stream(i, content.Stream)
}

func (f *feeder) order(o order, file *os.File) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = conn.Control(func(fd uintptr) {
		// The control socket's own descriptor: Fd would make it blocking, which is right here.
		sendErr = unix.Sendmsg(int(f.control.Fd()), text, unix.UnixRights(int(fd)), nil, unix.MSG_NOSIGNAL)
	})
	if err = errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// file hands a file over, and hashes it here meanwhile: what the child says of its
// content is kept for whoever names that digest. It is handed over first: whoever
// hashes it closes it.
func (f *feeder) file(i int, content *image.Content) error {
	if err := f.order(order{Index: i, Kind: orderFile, Size: content.Size}, content.File); err != nil {
		return errors.Join(err, content.File.Close())
	}
	f.busy.Go(func() {
		defer content.File.Close()
		got, err := image.Digest(f.hashing, io.NewSectionReader(content.File, 0, content.Size))
		if err == nil && got != f.src.Blobs[i] {
			err = fmt.Errorf("blob %s: its content has the digest %s: it is damaged or forged", f.src.Blobs[i], got)
		}
		if err != nil {
			f.fail(fmt.Errorf("layer %d: %w", i, err))
		}
	})
	return nil
}

// stream copies a blob into the child. A blob that is not what its digest
// names, or that breaks off, fails here, whatever the child made of it.
func (f *feeder) stream(i int, blob io.ReadCloser) error {
	r, w, err := os.Pipe()
	if err != nil {
		return errors.Join(err, blob.Close())
	}
	defer r.Close()
	f.busy.Go(func() {
		_, err := io.Copy(w, blob)
		err = errors.Join(err, blob.Close())
		if err != nil && !isPipeError(err) {
			f.fail(fmt.Errorf("layer %d: %w", i, err))
		}
		w.Close()
	})
	return f.order(order{Index: i, Kind: orderStream}, r)
}

func (f *feeder) folder(ctx context.Context, i int, folder image.Folder) error {
	mine, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	defer theirs.Close()
	folder.Wants = f.wants
	f.busy.Go(func() {
		defer mine.Close()
		gaps, err := folder.Send(ctx, f.limits, int(mine.Fd()))
		f.mu.Lock()
		f.gaps = append(f.gaps, gaps...)
		f.mu.Unlock()
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			f.fail(fmt.Errorf("layer %d: %w", i, err))
		}
	})
	return f.order(order{Index: i, Kind: orderFolder}, theirs)
}
