package testenv

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Rsyslog is a real receiver of syslog over TLS on loopback, with its own
// configuration, folder and process.
type Rsyslog struct {
	Address string // host:port
	CA      string // file of the authority, PEM
	Output  string // file of what it received, one JSON object a line
	// Certificate and Key are a client's, for AskForCertificate.
	Certificate, Key string

	dir string
	cmd *exec.Cmd
	log bytes.Buffer
}

// Received is one message as rsyslog understood it.
type Received struct {
	Priority   string `json:"pri"`
	Time       string `json:"time"`
	Host       string `json:"host"`
	App        string `json:"app"`
	MsgID      string `json:"msgid"`
	Structured string `json:"structured"`
	Message    string `json:"msg"`
}

// NeedRsyslog prepares a receiver; Start starts it. With askForCertificate it
// takes only clients that have a certificate of its authority.
func NeedRsyslog(t testing.TB, askForCertificate bool) *Rsyslog {
	t.Helper()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		Missing(t, "needs rsyslogd (Debian: rsyslog, rsyslog-gnutls)")
	}
	if found, _ := filepath.Glob("/usr/lib*/*/rsyslog/lmnsd_gtls.so"); len(found) == 0 {
		if found, _ = filepath.Glob("/usr/lib*/rsyslog/lmnsd_gtls.so"); len(found) == 0 {
			Missing(t, "needs rsyslog's TLS driver (Debian: rsyslog-gnutls)")
		}
	}
	r := &Rsyslog{dir: t.TempDir()}
	authority := NewAuthority(t)
	cert, key := authority.Issue(t, "siem.test")
	clientCert, clientKey := authority.Issue(t, "client.test")
	r.CA, r.Certificate, r.Key = r.file(t, "ca.pem", authority.PEM), r.file(t, "client.pem", clientCert), r.file(t, "client.key", clientKey)
	r.file(t, "cert.pem", cert)
	r.file(t, "key.pem", key)
	r.Output = filepath.Join(r.dir, "received")
	r.Address = FreeAddress(t)
	r.file(t, "rsyslog.conf", []byte(r.config(askForCertificate)))
	t.Cleanup(r.Kill)
	return r
}

func (r *Rsyslog) file(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (r *Rsyslog) config(askForCertificate bool) string {
	mode := "anon"
	if askForCertificate {
		mode = "x509/certvalid"
	}
	host, port, _ := net.SplitHostPort(r.Address)
	return fmt.Sprintf(`global(workDirectory="%[1]s" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="%[1]s/ca.pem"
  defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="%[2]s")
input(type="imtcp" address="%[3]s" port="%[4]s")
template(name="lines" type="list" option.jsonf="on") {
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timestamp" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="structured" name="structured-data" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}
action(type="omfile" file="%[5]s" template="lines")
`, r.dir, mode, host, port, r.Output)
}

// Start starts the receiver and waits until it listens.
func (r *Rsyslog) Start(t testing.TB) {
	t.Helper()
	r.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(r.dir, "rsyslog.conf"), "-i", filepath.Join(r.dir, "pid"))
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", r.Address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			r.Kill()
			t.Fatalf("rsyslogd does not listen on %s: %v\n%s", r.Address, err, r.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Stop ends the receiver as an administrator does; it writes down what it read.
func (r *Rsyslog) Stop() { r.end(syscall.SIGTERM) }

// Kill ends it as a crash does.
func (r *Rsyslog) Kill() { r.end(syscall.SIGKILL) }

func (r *Rsyslog) end(s syscall.Signal) {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(s)
	_ = r.cmd.Wait()
	r.cmd = nil
}

// Read returns what was received so far. A line that is being written, or that
// a crash cut, is left out.
func (r *Rsyslog) Read(t testing.TB) []Received {
	t.Helper()
	f, err := os.Open(r.Output)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []Received
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m Received
		if json.Unmarshal(lines.Bytes(), &m) == nil {
			list = append(list, m)
		}
	}
	return list
}

// FreeAddress is a loopback address that nothing listened on just now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
