package scan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/confine"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
)

// IsReader says that the process was started as a confined reader.
func IsReader(args []string) bool { return len(args) == 2 && args[1] == confine.Command }

// source is the descriptor that the child reads from.
const source = 3

// Reader is the confined child's main: it confines itself, reads what is in
// descriptor 3 and writes the answer. It returns the exit code.
func Reader(stdin io.Reader, stdout io.Writer) int {
	c := &child{in: bufio.NewReader(io.LimitReader(stdin, 1<<20)), out: &answers{w: stdout}}
	if err := c.line(&c.request); err != nil {
		c.out.send(message{Error: "request: " + err.Error()})
		return 1
	}
	missing := confine.Enter(confine.DefaultBudget())
	gaps, err := c.read(context.Background())
	if err != nil {
		c.out.send(message{Error: err.Error(), Missing: missing})
		return 0
	}
	c.out.send(message{Done: true, Gaps: gaps, Missing: missing})
	return 0
}

// child is one run of the confined reader.
type child struct {
	request
	in   *bufio.Reader
	out  *answers
	pass *pass
}

// line reads one line of JSON from the parent.
func (c *child) line(v any) error {
	data, err := c.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func (c *child) read(ctx context.Context) (gaps []string, err error) {
	if c.Read == readSBOM {
		return nil, c.readDocument()
	}
	var given tools
	if len(c.Scanners) > 0 {
		given.relay = newRelay(c.Engine, c.Scanners)
	}
	if c.Rules > 0 {
		if given.compiled, err = readRules(c.Rules); err != nil {
			return nil, err
		}
	}
	if c.pass, err = newPass(c.Key, c.Look, c.Content, given); err != nil {
		return nil, err
	}
	if c.Read == readLayers {
		return c.readOrders(ctx)
	}
	return nil, c.readArchive(ctx)
}

func (c *child) options() image.Options {
	return image.Options{
		Want: c.Want, Platform: c.Platform, Verify: c.Verify, Apart: c.Apart, Limits: c.Limits,
		Progress: func(p image.Progress) { c.out.send(message{Progress: &p}) },
	}
}

func (c *child) readArchive(ctx context.Context) error {
	f := os.NewFile(source, "image")
	opts := c.options()
	if c.Ask {
		opts.Known = c.ask
	}
	var img *image.Image
	var err error
	if c.Read == readStream {
		img, err = image.ReadStream(ctx, f, opts, c.pass.newLayer)
	} else {
		img, err = image.ReadArchive(ctx, f, c.Size, opts, c.pass.newLayer)
	}
	if err != nil {
		return err
	}
	for i, l := range img.Layers {
		if l.Sink == nil {
			continue // known
		}
		if err := c.sendLayer(i, l); err != nil {
			return err
		}
	}
	c.out.send(message{Image: img})
	return nil
}

// ask tells the parent which layers there are.
func (c *child) ask(img *image.Image) ([]bool, error) {
	c.out.send(message{Image: img})
	var answer answerKnown
	if err := c.line(&answer); err != nil {
		return nil, fmt.Errorf("asking for known layers: %w", err)
	}
	return answer.Known, nil
}

func (c *child) sendLayer(i int, l image.Layer) error {
	lp, ok := l.Sink.(*layerPass)
	if !ok {
		return errors.New("a layer without its sink")
	}
	kept, err := lp.layer.Keep()
	if err != nil {
		return err
	}
	r := &layerResult{Index: i, DiffID: l.DiffID, Size: l.Size, Files: l.Files, inventory: kept, Found: map[string]event.Content{}}
	for n, look := range c.pass.looks {
		r.Found[look.name] = lp.found[n]
	}
	c.out.send(message{Layer: r})
	return nil
}

// readOrders reads layers as they are handed over, until the parent closes its
// end. The parent bounds how many are open at once.
func (c *child) readOrders(ctx context.Context) ([]string, error) {
	reader := image.NewReader(ctx, c.options(), c.Layers)
	var running sync.WaitGroup
	defer running.Wait()
	buf, oob := make([]byte, maxOrder), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(source, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		if n == 0 {
			running.Wait()
			return reader.Gaps(), nil
		}
		o, fd, err := parseOrder(buf[:n], oob[:oobn])
		if err != nil {
			return nil, err
		}
		running.Go(func() {
			layer, err := c.readOrder(reader, o, fd)
			if err == nil {
				err = c.sendLayer(o.Index, layer)
			}
			if err != nil {
				c.out.send(message{Layer: &layerResult{Index: o.Index, Error: err.Error()}})
			}
		})
	}
}

func parseOrder(text, oob []byte) (o order, fd int, err error) {
	if err := json.Unmarshal(text, &o); err != nil {
		return o, 0, fmt.Errorf("an order: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return o, 0, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err == nil && len(fds) == 1 {
			return o, fds[0], nil
		}
	}
	return o, 0, errors.New("an order came without its descriptor")
}

func (c *child) readOrder(reader *image.Reader, o order, fd int) (image.Layer, error) {
	if o.Kind == orderFolder {
		defer func() { _ = unix.Close(fd) }()
		return reader.Folder(fd, c.pass.newLayer())
	}
	f := os.NewFile(uintptr(fd), "layer")
	defer f.Close()
	if o.Kind == orderFile {
		return reader.Blob(nil, f, o.Size, c.pass.newLayer())
	}
	return reader.Blob(f, nil, 0, c.pass.newLayer())
}
