package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Peer is the address at which listeners of intruders wait. It is one of those
// that are reserved for documentation (RFC 5737) and exists only inside a
// container's own network namespace: nothing leaves the machine.
const Peer = "192.0.2.10"

// Addresses gives the network namespace of a process further addresses.
func Addresses(ctx context.Context, pid int, addresses ...string) error {
	for _, a := range addresses {
		out, err := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(pid), "-n", "ip", "addr", "add", a, "dev", "lo").CombinedOutput()
		if err != nil {
			return fmt.Errorf("give a container's network the address %s: %w: %s", a, err, out)
		}
	}
	return nil
}

// Listener waits inside a container's network namespace and counts who came.
type Listener struct {
	io.Closer
	Connections atomic.Int64 // or datagrams
	Received    atomic.Int64 // bytes of connections
}

// Listen opens a listener for TCP at an address in the namespace of a process.
// Each caller gets the command, as an intruder's console would send it.
func Listen(pid int, address, command string) (*Listener, error) {
	l := &Listener{}
	var listener net.Listener
	err := inNetwork(pid, func(lc net.ListenConfig) (err error) {
		listener, err = lc.Listen(context.Background(), "tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.Closer = listener
	go l.serve(listener, command)
	return l, nil
}

// ListenPacket counts the datagrams that come to an address.
func ListenPacket(pid int, address string) (*Listener, error) {
	l := &Listener{}
	var conn net.PacketConn
	err := inNetwork(pid, func(lc net.ListenConfig) (err error) {
		conn, err = lc.ListenPacket(context.Background(), "udp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.Closer = conn
	go func() {
		buf := make([]byte, 2048)
		for {
			_, _, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				l.Connections.Add(1)
			}
		}
	}()
	return l, nil
}

// inNetwork calls open in the network namespace of a process.
func inNetwork(pid int, open func(net.ListenConfig) error) error {
	opened := make(chan error, 1)
	go func() {
		// The thread is given up with the goroutine: it must not carry another
		// goroutine into the container's network.
		runtime.LockOSThread()
		opened <- enter(pid, open)
	}()
	return <-opened
}

func enter(pid int, open func(net.ListenConfig) error) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the container's network: %w", err)
	}
	return open(net.ListenConfig{})
}

func (l *Listener) serve(listener net.Listener, command string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		l.Connections.Add(1)
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.WriteString(conn, command); err != nil {
				return
			}
			_, _ = io.Copy(counter{&l.Received}, conn) // how it ended does not matter, only what came
		}()
	}
}

// counter counts what is written to it, as it comes.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}
