package syslog_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify/transport/syslog"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

const patience = 60 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func receiver(t testing.TB, c syslog.Config) *syslog.Receiver {
	t.Helper()
	r, err := syslog.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRsyslogUnderstandsWhatWeSend(t *testing.T) {
	server := testenv.NeedRsyslog(t, true)
	server.Start(t)
	r := receiver(t, syslog.Config{Address: server.Address, CA: server.CA, ServerName: "siem.test", Certificate: server.Certificate, Key: server.Key, Facility: "local0"})
	s, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := event.Incident{Key: `k"]\1`, Host: "host-1", Severity: event.SeverityHigh, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Sentence: "A line\nand <é> another", Decision: event.Decision{Outcome: event.Prevented}}
	if err := s.Send(t.Context(), []event.Incident{sent, {Key: "second", Sentence: strings.Repeat("é", 9000)}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("rsyslog did not end in order: %v", err)
	}
	eventually(t, "two messages", func() bool { return len(server.Read(t)) == 2 })
	got := server.Read(t)
	m := got[0]
	if m.Priority != "131" || m.Host != "host-1" || m.App != "breakwater" || m.MsgID != "incident" || !strings.HasPrefix(m.Time, "2026-01-02T03:04:05.000006") {
		t.Errorf("header: %+v", m)
	}
	if m.Structured != `[breakwater@32473 key="k\"\]\\1" severity="high" outcome="prevented"]` {
		t.Errorf("structured data: %s", m.Structured)
	}
	var body struct{ Incident event.Incident }
	if err := json.Unmarshal([]byte(m.Message), &body); err != nil || body.Incident.Sentence != sent.Sentence || body.Incident.Key != sent.Key {
		t.Errorf("body %q: %v", m.Message, err)
	}
	if err := json.Unmarshal([]byte(got[1].Message), &body); err != nil || !strings.Contains(got[1].Message, "shortened") {
		t.Errorf("the long one was cut on its way: %v", err)
	}
}

func TestTrustInBothDirections(t *testing.T) {
	server := testenv.NeedRsyslog(t, true)
	server.Start(t)
	other := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(other, testenv.NewAuthority(t).PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]syslog.Config{
		"another authority": {Address: server.Address, CA: other},
		"another name":      {Address: server.Address, CA: server.CA, ServerName: "other.test"},
	} {
		if _, err := receiver(t, c).Open(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// TLS 1.3 tells a client without a certificate only after its handshake.
	s, err := receiver(t, syslog.Config{Address: server.Address, CA: server.CA}).Open(t.Context())
	if err != nil {
		return
	}
	<-s.Broken()
	if err := s.Send(t.Context(), []event.Incident{{Key: "k"}}); err == nil {
		t.Error("sent without a client certificate")
	}
	if got := server.Read(t); len(got) != 0 {
		t.Errorf("received %v", got)
	}
}

// fake is a receiver that a test can stop in the middle.
func fake(t *testing.T, serve func(net.Conn)) syslog.Config {
	t.Helper()
	authority := testenv.NewAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, authority.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", authority.ServerTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err == nil {
			serve(conn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return syslog.Config{Address: l.Addr().String(), CA: ca}
}

func TestCloseProvesOnlyWhatWasRead(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(net.Conn, <-chan struct{})
		proven bool
	}{
		"reads all": {func(conn net.Conn, _ <-chan struct{}) { _, _ = io.Copy(io.Discard, conn); conn.Close() }, true},
		// The kernel has acknowledged bytes that the program never takes.
		"dies before reading": {func(conn net.Conn, sent <-chan struct{}) {
			_ = conn.(*tls.Conn).Handshake()
			<-sent
			conn.(*tls.Conn).NetConn().Close()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{})
			s, err := receiver(t, fake(t, func(conn net.Conn) { c.serve(conn, sent) })).Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), []event.Incident{{Key: "k"}}); err != nil {
				t.Fatal(err)
			}
			close(sent)
			if err := s.Close(t.Context()); (err == nil) != c.proven {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestSendWaitsForTheReceiversHost(t *testing.T) {
	release := make(chan struct{})
	s, err := receiver(t, fake(t, func(conn net.Conn) {
		_ = conn.(*tls.Conn).Handshake()
		<-release
		conn.Close()
	})).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var many []event.Incident
	for i := range 4000 { // more than the receiver's kernel takes
		many = append(many, event.Incident{Key: fmt.Sprint(i), Sentence: strings.Repeat("x", 5000)})
	}
	if err := s.Send(ctx, many); err == nil {
		t.Error("send did not wait for what the receiver's host has not taken")
	}
}
