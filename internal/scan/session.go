package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/confine"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory/sbom"
)

// session is the parent's side of one confined child.
type session struct {
	o       Options
	request request
	stdin   *os.File

	// onImage answers the child's question about known layers.
	onImage func(*image.Image) []bool
	onLayer func(*layerResult)

	result outcome
}

// outcome is what a child answered in the end.
type outcome struct {
	image  *image.Image
	layers map[int]*layerResult
	sbom   *sbom.Document
	gaps   []string
	notes  []string
}

func newSession(o Options, req request) *session {
	req.Limits, req.Content, req.Look, req.Platform = o.Limits, o.Content, o.look(), o.Platform
	if o.Malware != nil {
		req.Engine = o.Malware.Engine()
	}
	return &session{o: o, request: req, result: outcome{layers: map[int]*layerResult{}}}
}

// run runs the child over f, which becomes its descriptor 3, to its end.
func (s *session) run(ctx context.Context, f *os.File) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := []*os.File{f}
	if s.o.Rules != nil {
		rules, err := rulesFile(s.o.Rules.Compiled)
		if err != nil {
			return outcome{}, err
		}
		defer rules.Close()
		s.request.Rules = source + len(files)
		files = append(files, rules)
	}
	var relays sync.WaitGroup
	defer relays.Wait()
	if s.o.Malware != nil {
		for range min(runtime.GOMAXPROCS(0), 4) {
			conn, child, err := socketPair(unix.SOCK_STREAM)
			if err != nil {
				return outcome{}, err
			}
			defer child.Close()
			s.request.Scanners = append(s.request.Scanners, source+len(files))
			files = append(files, child)
			relays.Go(func() {
				defer conn.Close()
				_ = serve(ctx, conn, s.o.Malware) // ends with the child; what fails before is the file's gap
			})
		}
	}
	err := s.talk(ctx, files)
	for _, f := range files[1:] {
		f.Close() // the relays' other ends: they end
	}
	return s.result, err
}

// talk starts the child, tells it what to do and hears it out.
func (s *session) talk(ctx context.Context, files []*os.File) error {
	order, err := json.Marshal(s.request)
	if err != nil {
		return err
	}
	stdin, toChild, err := os.Pipe()
	if err != nil {
		return err
	}
	defer toChild.Close()
	s.stdin = toChild
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = toChild.Write(append(order, '\n')) // a child that is gone says why by its end
	}()
	r, w := io.Pipe()
	heard := make(chan error, 1)
	var last message
	go func() {
		var err error
		last, err = s.hear(r)
		r.CloseWithError(err) // the child must not wait for a reader that gave up
		heard <- err
	}()
	missing, runErr := confine.Run(ctx, confine.Child{Stdin: stdin, Files: files, Stdout: w})
	_ = stdin.Close() // whoever still writes to the child is let go
	_ = w.Close()     // never fails: the other end of an io.Pipe
	hearErr := <-heard
	<-told
	switch {
	case last.Error != "":
		return errors.New(clean(last.Error))
	case hearErr != nil && !errors.Is(hearErr, io.EOF):
		return fmt.Errorf("answer of the confined reader: %w", hearErr)
	case runErr != nil:
		return runErr
	case !last.Done:
		return errors.New("the confined reader gave no answer; please report it")
	}
	if all := append(missing, last.Missing...); len(all) > 0 {
		s.result.notes = append(s.result.notes, "the image was read by a process that this host confines only in part: "+strings.Join(all, "; "))
	}
	return nil
}

// hear reads messages up to the last one.
func (s *session) hear(r io.Reader) (message, error) {
	limited := &io.LimitedReader{R: r, N: maxAnswer}
	for {
		m, err := receive(limited)
		switch {
		case err != nil:
			return message{}, err
		case m.Progress != nil:
			if s.o.Progress != nil {
				s.o.Progress(*m.Progress)
			}
		case m.Image != nil:
			if err := s.heardImage(m.Image); err != nil {
				return message{}, err
			}
		case m.Layer != nil:
			if _, twice := s.result.layers[m.Layer.Index]; twice {
				return message{}, errors.New("speaks of a layer twice")
			}
			s.result.layers[m.Layer.Index] = m.Layer
			if s.onLayer != nil {
				s.onLayer(m.Layer)
			}
		case m.SBOM != nil:
			s.result.sbom = m.SBOM
		default:
			s.result.gaps = m.Gaps
			return m, s.drain(limited)
		}
	}
}

func (s *session) drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// heardImage takes the child's word for what the image is; when it asked, it
// is answered. The answer is short enough for the pipe's own buffer.
func (s *session) heardImage(img *image.Image) error {
	if s.result.image != nil || s.onImage == nil || !s.request.Ask {
		s.result.image = img
		return nil
	}
	s.result.image = img
	data, err := json.Marshal(answerKnown{Known: s.onImage(img)})
	if err != nil {
		return err
	}
	_, err = s.stdin.Write(append(data, '\n'))
	return err
}

// clean makes an error text of the child fit for a terminal and a log line.
func clean(s string) string {
	if len(s) > maxError {
		s = s[:maxError] + "…"
	}
	return printable(s)
}
