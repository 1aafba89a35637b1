package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify"
	"github.com/breakwater-sec/breakwater/internal/notify/format"
)

const (
	defaultMaxMessage = 8192 // bytes; what RFC 5425 asks receivers to take, and rsyslog's default
	minMaxMessage     = 2048 // bytes; what RFC 5425 obliges receivers to take
	mostMaxMessage    = 1 << 20
	headRoom          = 1024 // bytes of a message that are not its body, at most
	dialWithin        = 10 * time.Second
	ackWithin         = 30 * time.Second
	ackPoll           = 2 * time.Millisecond
	maxKeyParam       = 256
	maxOtherParam     = 64
)

// Config says where the receiver is and how it is trusted.
type Config struct {
	// Address is host:port; 6514 is the registered port.
	Address string `json:"address" yaml:"address"`
	// CA is the file of the authorities that may have issued the receiver's
	// certificate, PEM. "" means the system's.
	CA string `json:"ca,omitempty" yaml:"ca"`
	// ServerName is the name that the certificate must bear; "" means the host
	// of Address.
	ServerName string `json:"serverName,omitempty" yaml:"serverName"`
	// Certificate and Key are files in PEM, for receivers that ask for them.
	Certificate string `json:"certificate,omitempty" yaml:"certificate"`
	Key         string `json:"key,omitempty" yaml:"key"`
	// Facility is its name, such as local0; "" means authpriv.
	Facility string `json:"facility,omitempty" yaml:"facility"`
	// MaxMessage is the largest message in bytes, 2048 to 1048576; 0 means 8192.
	// Incidents that are larger are shortened, and say so.
	MaxMessage int `json:"maxMessage,omitempty" yaml:"maxMessage"`
}

// Validate returns everything that is wrong, without touching files or network.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("syslog: "+format, args...)) }
	host, port, err := net.SplitHostPort(c.Address)
	if err != nil || host == "" || port == "" {
		wrong("address %q: want host:port, such as siem.example:6514", c.Address)
	}
	if (c.Certificate == "") != (c.Key == "") {
		wrong("certificate and key belong together: set both or none")
	}
	if _, ok := facility(c.facility()); !ok {
		wrong("facility %q: want one of RFC 5424, such as authpriv or local0", c.Facility)
	}
	if c.MaxMessage != 0 && (c.MaxMessage < minMaxMessage || c.MaxMessage > mostMaxMessage) {
		wrong("maxMessage %d: want %d to %d bytes", c.MaxMessage, minMaxMessage, mostMaxMessage)
	}
	return errors.Join(errs...)
}

func (c Config) facility() string {
	if c.Facility == "" {
		return "authpriv"
	}
	return c.Facility
}

// Receiver is a syslog receiver: a notify.Transport.
type Receiver struct {
	address  string
	tls      *tls.Config
	facility int
	limit    int
}

// New checks the configuration and reads its files.
func New(c Config) (*Receiver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	number, _ := facility(c.facility())
	r := &Receiver{address: c.Address, facility: number, limit: c.MaxMessage}
	if r.limit == 0 {
		r.limit = defaultMaxMessage
	}
	r.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.ServerName == "" {
		r.tls.ServerName, _, _ = net.SplitHostPort(c.Address)
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("syslog: ca: %w", err)
		}
		r.tls.RootCAs = x509.NewCertPool()
		if !r.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("syslog: ca %s holds no PEM certificate", c.CA)
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("syslog: certificate %s with key %s: %w", c.Certificate, c.Key, err)
		}
		r.tls.Certificates = []tls.Certificate{pair}
	}
	return r, nil
}

// Open connects and shakes hands.
func (r *Receiver) Open(ctx context.Context) (notify.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	plain, err := dialer.DialContext(ctx, "tcp", r.address)
	if err != nil {
		return nil, fmt.Errorf("syslog %s: %w", r.address, err)
	}
	conn := tls.Client(plain, r.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, fmt.Errorf("syslog %s: TLS: %w", r.address, err)
	}
	s := &session{receiver: r, conn: conn, tcp: plain.(*net.TCPConn), broken: make(chan struct{})}
	go s.listen()
	return s, nil
}

// Message is the message for one incident, in the receiver's limit.
func (r *Receiver) Message(i event.Incident) ([]byte, error) {
	m := Message{Facility: r.facility, Severity: severity(i.Severity), Time: i.Time, Host: i.Host,
		App: "breakwater", MsgID: "incident", Data: params(i)}
	body, err := format.JSON(i, r.limit-headRoom)
	if err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	m.Body = body
	return m.Encode(), nil
}

// params are what receivers filter and count by without reading the body.
func params(i event.Incident) []Param {
	list := []Param{{"key", cut(i.Key, maxKeyParam)}}
	for _, p := range []Param{{"severity", string(i.Severity)}, {"outcome", string(i.Decision.Outcome)},
		{"control", string(i.Decision.Control)}, {"detection", i.Detection}} {
		if p.Value != "" {
			list = append(list, Param{p.Name, cut(p.Value, maxOtherParam)})
		}
	}
	return list
}

// cut keeps a value to n bytes as they are on the wire at worst.
func cut(s string, n int) string {
	s = s[:min(len(s), n)]
	for len(escape(s)) > n {
		s = s[:len(s)-1]
	}
	return s
}

// session is one connection to a receiver.
type session struct {
	receiver *Receiver
	conn     *tls.Conn
	tcp      *net.TCPConn
	broken   chan struct{}
	cause    error // why the receiver went away; io.EOF is orderly. Set before broken is closed
}

// listen waits for the end of the connection: receivers say nothing.
func (s *session) listen() {
	defer close(s.broken)
	for {
		if _, err := s.conn.Read(make([]byte, 256)); err != nil {
			s.cause = err
			return
		}
	}
}

// Broken is closed when the receiver has gone away.
func (s *session) Broken() <-chan struct{} { return s.broken }

// Send writes the incidents and waits for the receiver's TCP.
func (s *session) Send(ctx context.Context, incidents []event.Incident) error {
	var frames []byte
	for _, i := range incidents {
		m, err := s.receiver.Message(i)
		if err != nil {
			return err
		}
		frames = append(frames, Frame(m)...)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(ackWithin)); err != nil {
		return s.lost(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := s.conn.Write(frames); err != nil {
		return s.lost(err)
	}
	return s.acknowledged(ctx)
}

func (s *session) lost(err error) error {
	return fmt.Errorf("syslog %s: connection lost: %w", s.receiver.address, err)
}

// acknowledged waits until nothing that was written is still on its way.
func (s *session) acknowledged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	ticker := time.NewTicker(ackPoll)
	defer ticker.Stop()
	for {
		n, err := s.underway()
		if err != nil {
			return s.lost(err)
		}
		select {
		case <-s.broken: // also when n is 0: a reset empties the queue
			return s.lost(s.cause)
		default:
		}
		if n == 0 {
			return nil
		}
		select {
		case <-s.broken:
			return s.lost(s.cause)
		case <-ctx.Done():
			return s.lost(fmt.Errorf("%d bytes not acknowledged: %w", n, ctx.Err()))
		case <-ticker.C:
		}
	}
}

// underway is how many bytes the receiver's TCP has not acknowledged.
func (s *session) underway() (n int, err error) {
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil {
		return 0, e
	}
	return n, err
}

// Close ends our side, first of TLS, then of TCP, and waits for the receiver's.
// An end of stream means that its program read everything; a reset, or nothing
// until ctx ends, means that it may not have.
func (s *session) Close(ctx context.Context) error {
	defer s.conn.Close()
	select {
	case <-s.broken: // it went away before we asked: nothing is proven
		return s.lost(s.cause)
	default:
	}
	if err := errors.Join(s.conn.SetWriteDeadline(time.Now().Add(ackWithin)), s.conn.CloseWrite(), s.tcp.CloseWrite()); err != nil {
		return s.lost(err)
	}
	select {
	case <-s.broken:
	case <-ctx.Done():
		return s.lost(ctx.Err())
	}
	// Receivers that end TCP without ending TLS give an unexpected EOF.
	if errors.Is(s.cause, io.EOF) || errors.Is(s.cause, io.ErrUnexpectedEOF) {
		return nil
	}
	return s.lost(s.cause)
}
