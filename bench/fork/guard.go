package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func (b *bench) pin() string { return filepath.Join(b.dir, "bpf") }

// install puts the policy in force once; Breakwater keeps it in its folder.
func (b *bench) install(ctx context.Context) error {
	if b.idle {
		return nil
	}
	source, err := os.ReadFile(b.policy)
	if err != nil {
		return err
	}
	cmd, said, err := b.up(ctx)
	if err != nil {
		return err
	}
	return errors.Join(b.apply(ctx, word(said, "Console:"), source), b.down(cmd))
}

// guarded is a storm with Breakwater, and the processor time that Breakwater
// took for the storms, one round's share of it.
func (b *bench) guarded(ctx context.Context) (sample, time.Duration, error) {
	if b.idle {
		s, err := b.storm(ctx)
		return s, 0, err
	}
	cmd, said, err := b.up(ctx)
	if err != nil {
		return sample{}, 0, err
	}
	if strings.Contains(said, "generation 0.") {
		return sample{}, 0, errors.Join(errors.New("no policy is in force"), b.down(cmd))
	}
	if err := b.holds(ctx); err != nil {
		return sample{}, 0, errors.Join(err, b.down(cmd))
	}
	before := taken(cmd.Process.Pid)
	s, err := b.storm(ctx)
	own := (taken(cmd.Process.Pid) - before) / time.Duration(b.rounds)
	return s, own, errors.Join(err, b.down(cmd))
}

// holds makes sure that the policy is in force for the image's containers: a
// program that it does not name must not run.
func (b *bench) holds(ctx context.Context) error {
	out, err := b.engine.Command(ctx, "run", "--rm", "--network=none", imageName, "/bin/stranger").Output()
	if err == nil || len(out) > 0 {
		return fmt.Errorf("a program outside the policy ran: %q", out)
	}
	return nil
}

// taken is the processor time that a process has taken, in ticks of 10 ms
// (proc_pid_stat(5)).
func taken(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var user, system int64
	_, _ = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// up starts server and agent and waits until they guard.
func (b *bench) up(ctx context.Context) (cmd *exec.Cmd, said string, err error) {
	log, err := os.Create(filepath.Join(b.dir, "up.log"))
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	cmd = exec.CommandContext(ctx, b.binary, "up", "--data="+filepath.Join(b.dir, "data"), "--listen=127.0.0.1:0", "--bus-listen=127.0.0.1:0",
		"--engine="+b.engine.Socket, "--pin="+b.pin(), "--under="+b.under, "--gate=no")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(log.Name())
		if err == nil && strings.Contains(string(text), "\nGuarding ") {
			return cmd, string(text), nil
		}
		if err != nil || time.Now().After(deadline) {
			return nil, "", errors.Join(err, fmt.Errorf("breakwater up is not ready:\n%s", text), b.down(cmd))
		}
	}
}

// down ends Breakwater and takes its programs out of the kernel.
func (b *bench) down(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait() // ended by our signal
	if out, err := exec.Command(b.binary, "unload", "--pin="+b.pin()).CombinedOutput(); err != nil {
		return fmt.Errorf("unload: %w: %s", err, out)
	}
	return nil
}

// word is what follows a label on a line.
func word(text, label string) string {
	_, after, _ := strings.Cut(text, label)
	first, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	return first
}

// apply logs in with the first password and posts the policy. The server was
// started by this program, on loopback: its certificate is not checked.
func (b *bench) apply(ctx context.Context, address string, source []byte) error {
	password, err := os.ReadFile(filepath.Join(b.dir, "data", "first-password"))
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		Jar: jar, Timeout: 20 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	form := url.Values{"name": {"admin"}, "password": {strings.TrimSpace(string(password))}}
	if err := post(ctx, client, address+"/login", "application/x-www-form-urlencoded", strings.NewReader(form.Encode())); err != nil {
		return err
	}
	return post(ctx, client, address+"/api/v1/policies", "application/yaml", bytes.NewReader(source))
}

func post(ctx context.Context, client *http.Client, address, contentType string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode >= 400 {
		return fmt.Errorf("POST %s: status %d: %s", address, resp.StatusCode, answer)
	}
	return nil
}
