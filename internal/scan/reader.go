package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/breakwater-sec/breakwater/internal/confine"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// request is what the parent asks of the child, as JSON on its standard input;
// the image is descriptor 3.
type request struct {
	Want   string
	Limits image.Limits
	Size   int64
	Stream bool
	Verify bool
}

// message is what the child answers, one JSON value after another: progress,
// then one result or one error.
type message struct {
	Progress *image.Progress `json:"progress,omitempty"`
	Result   *report.Report  `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
	Missing  []string        `json:"missing,omitempty"` // parts of the confinement
}

const (
	maxAnswer = 256 << 20 // bytes of a child's whole answer; 10,000 packages are 4 MB
	maxError  = 2000      // bytes of an error text from a child
)

// IsReader says that the process was started as a confined reader.
func IsReader(args []string) bool { return len(args) == 2 && args[1] == confine.Command }

// Reader is the confined child's main: it confines itself, reads the image in
// descriptor 3 and writes the answer. It returns the exit code.
func Reader(stdin io.Reader, stdout io.Writer) int {
	out := &answers{enc: json.NewEncoder(stdout)}
	var req request
	if err := json.NewDecoder(io.LimitReader(stdin, 1<<20)).Decode(&req); err != nil {
		out.send(message{Error: "request: " + err.Error()})
		return 1
	}
	missing := confine.Enter(confine.DefaultBudget())
	rep, err := readImage(context.Background(), req, os.NewFile(3, "image"), out)
	if err != nil {
		out.send(message{Error: err.Error(), Missing: missing})
		return 0
	}
	out.send(message{Result: rep, Missing: missing})
	return 0
}

// answers writes messages from several goroutines.
type answers struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (a *answers) send(m message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.enc.Encode(m) // a parent that went away kills this process anyway
}

// layerSink hands a layer's entries to the inventory.
type layerSink struct{ layer *inventory.Layer }

func (s layerSink) Visit(e image.Entry, content io.Reader) error {
	s.layer.Visit(inventory.Entry{Path: e.Path, Kind: kinds[e.Kind], Link: e.Link, Size: e.Size, Executable: e.Mode&0o111 != 0}, content)
	return nil
}

var kinds = [...]inventory.Kind{image.File: inventory.Regular, image.Dir: inventory.Dir, image.Symlink: inventory.Symlink, image.Hardlink: inventory.Hardlink, image.Other: inventory.Other}

func readImage(ctx context.Context, req request, f *os.File, out *answers) (*report.Report, error) {
	engine := drivers.All()
	newSink := func() image.Sink { return layerSink{engine.NewLayer()} }
	opts := image.Options{Want: req.Want, Verify: req.Verify, Limits: req.Limits, Progress: func(p image.Progress) { out.send(message{Progress: &p}) }}
	var img *image.Image
	var err error
	if req.Stream {
		img, err = image.ReadStream(ctx, f, opts, newSink)
	} else {
		img, err = image.ReadArchive(ctx, f, req.Size, opts, newSink)
	}
	if err != nil {
		return nil, err
	}
	return assemble(engine, img), nil
}

// assemble makes the part of the report that the image alone gives.
func assemble(engine *inventory.Engine, img *image.Image) *report.Report {
	rep := &report.Report{
		Image:  event.Image{Digest: img.Digest, Platform: img.Platform, References: img.Tags},
		Config: configOf(&img.Config),
		Gaps:   img.Gaps,
	}
	layers := make([]*inventory.Layer, len(img.Layers))
	for i, l := range img.Layers {
		layers[i] = l.Sink.(layerSink).layer
		rep.Layers = append(rep.Layers, report.Layer{DiffID: l.DiffID, Step: l.Step, Size: l.Size, Files: l.Files})
	}
	found := engine.Merge(layers)
	rep.Distro = report.Distro(found.Distro)
	rep.Gaps = append(rep.Gaps, found.Gaps...)
	rep.Packages = found.Packages
	for i := range rep.Packages {
		p := &rep.Packages[i]
		p.Layer, p.Step = rep.Layers[p.LayerIndex].DiffID, rep.Layers[p.LayerIndex].Step
	}
	return rep
}

func configOf(c *image.Config) policy.ImageConfig {
	return policy.ImageConfig{
		User: c.Config.User, Env: c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
		Labels: c.Config.Labels, WorkingDir: c.Config.WorkingDir,
		ExposedPorts: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes),
	}
}

func keys(m map[string]struct{}) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// confined runs the child over the image in f.
func confined(ctx context.Context, req request, f *os.File, o Options) (*report.Report, error) {
	order, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	type outcome struct {
		last message
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		last, err := receive(r, o.Progress)
		r.CloseWithError(err) // the child must not wait for a reader that gave up
		read <- outcome{last, err}
	}()
	missing, runErr := confine.Run(ctx, confine.Child{Stdin: bytes.NewReader(order), Files: []*os.File{f}, Stdout: w})
	_ = w.Close() // never fails: the other end of an io.Pipe
	got := <-read
	switch {
	case got.last.Error != "":
		return nil, errors.New(clean(got.last.Error))
	case got.err != nil && !errors.Is(got.err, io.EOF):
		return nil, fmt.Errorf("answer of the confined reader: %w", got.err)
	case runErr != nil:
		return nil, runErr
	case got.last.Result == nil:
		return nil, errors.New("the confined reader gave no answer; please report it")
	}
	rep := got.last.Result
	if all := append(missing, got.last.Missing...); len(all) > 0 {
		rep.Notes = append(rep.Notes, "the image was read by a process that this host confines only in part: "+strings.Join(all, "; "))
	}
	return rep, nil
}

var errAnswerTooLong = errors.New("is too long")

// receive reads messages up to the last one.
func receive(r io.Reader, progress func(image.Progress)) (message, error) {
	limited := &io.LimitedReader{R: r, N: maxAnswer}
	dec := json.NewDecoder(limited)
	for {
		var m message
		err := dec.Decode(&m)
		switch {
		case limited.N <= 0:
			return message{}, errAnswerTooLong
		case err != nil:
			return message{}, err
		case m.Progress != nil:
			if progress != nil {
				progress(*m.Progress)
			}
		default:
			_, err := io.Copy(io.Discard, limited)
			return m, err
		}
	}
}

// clean makes an error text of the child fit for a terminal and a log line.
func clean(s string) string {
	if len(s) > maxError {
		s = s[:maxError] + "…"
	}
	return report.Printable(s)
}

func isPipeError(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed)
}
