package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultConfig  = "/etc/docker/daemon.json"
	defaultPIDFile = "/var/run/docker.pid"
	askTimeout     = 5 * time.Second
	maxAnswer      = 8 << 20
)

// daemon is a running dockerd.
type daemon struct {
	pid    int
	socket string
	config string   // its configuration file
	flags  []string // its command line without the program
}

// findDaemon finds the process behind an engine's socket.
func findDaemon(ctx context.Context, socket string) (*daemon, error) {
	conn, err := (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "unix", socket)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("engine at %s: %w: changing it needs root: run it with sudo", socket, err)
	}
	if err != nil {
		return nil, fmt.Errorf("no engine answers at %s: %w (start it, or name its socket with --engine)", socket, err)
	}
	defer conn.Close()
	pid, err := peer(conn)
	if err != nil {
		return nil, fmt.Errorf("engine at %s: %w", socket, err)
	}
	// With socket activation the socket's owner is the service manager: then the
	// engine's own file says who it is.
	for _, candidate := range []int{pid, fromPIDFile(defaultPIDFile)} {
		if program(candidate) == "dockerd" {
			return describe(candidate, socket)
		}
	}
	return nil, fmt.Errorf("engine at %s: process %d (%s) owns the socket and is no dockerd: the gate can be installed into Docker engines of this host only", socket, pid, program(pid))
}

func describe(pid int, socket string) (*daemon, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, fmt.Errorf("engine's process %d: %w", pid, err)
	}
	words := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
	d := &daemon{pid: pid, socket: socket, flags: words[1:], config: defaultConfig}
	if file, ok := d.flag("config-file"); ok {
		d.config = file
		if !filepath.IsAbs(file) {
			cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil {
				return nil, fmt.Errorf("engine's process %d: %w", pid, err)
			}
			d.config = filepath.Join(cwd, file)
		}
	}
	return d, nil
}

// flag gives the last value of a flag on the engine's command line.
func (d *daemon) flag(name string) (value string, found bool) {
	for i, word := range d.flags {
		word = "-" + strings.TrimLeft(word, "-") // dockerd takes one dash or two
		if v, ok := strings.CutPrefix(word, "-"+name+"="); ok {
			value, found = v, true
		} else if word == "-"+name && i+1 < len(d.flags) {
			value, found = d.flags[i+1], true
		}
	}
	return value, found
}

// reload makes the engine read its configuration file again.
func (d *daemon) reload() error {
	if program(d.pid) != "dockerd" {
		return fmt.Errorf("the engine (process %d) is gone", d.pid)
	}
	if err := syscall.Kill(d.pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("tell the engine (process %d) to read its configuration again: %w", d.pid, err)
	}
	return nil
}

func peer(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("who owns the socket: %w", err)
	}
	return int(cred.Pid), nil
}

func fromPIDFile(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// program is a process's short name; "" when it is gone.
func program(pid int) string {
	if pid <= 0 {
		return ""
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// call makes a harmless call to the engine that carries a probe, by which the
// gate knows it again. The engine's own list of its plugins is of no use: some
// versions (20.10) show there what they were started with.
func (d *daemon) call(ctx context.Context, probe string) error {
	_, err := ask(ctx, d.socket, http.MethodGet, "/version?breakwater-probe="+url.QueryEscape(probe))
	return err
}

// ask sends one request over a unix socket.
func ask(ctx context.Context, socket, method, target string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	q, err := http.NewRequestWithContext(ctx, method, "http://local"+target, bytes.NewReader(nil))
	if err != nil {
		return nil, err
	}
	r, err := client.Do(q)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", target, r.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// asks says whether the engine asks the gate of a target now: whether a call to
// the engine came past the gate. A call that fails says nothing.
func (d *daemon) asks(ctx context.Context, t Target) (bool, error) {
	probe := rand.Text()
	if err := d.call(ctx, probe); err != nil {
		return false, err
	}
	got, err := probed(ctx, t)
	if err != nil {
		return false, nil // the gate is dead and the call went through: it was not asked
	}
	return got == probe, nil
}

// until polls until the engine asks the gate (or, with use false, no longer).
func (d *daemon) until(ctx context.Context, t Target, use bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		asked, err := d.asks(ctx, t)
		if err == nil && asked == use {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("its log says why it did not take the change")
			}
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
