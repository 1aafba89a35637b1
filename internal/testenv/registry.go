package testenv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Registry is a private distribution registry with TLS and one user.
type Registry struct {
	Host           string // 127.0.0.1:port
	User, Password string
	Authority      *Authority // that signed its certificate
	CAFile         string
}

// NewRegistry starts a registry for this test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	program, err := lookPath("docker-registry")
	if err != nil {
		Missing(t, "no docker-registry (package docker-registry)")
	}
	dir := t.TempDir()
	r := &Registry{Host: freeAddress(t), User: "ann", Password: "a password", Authority: NewAuthority(t), CAFile: filepath.Join(dir, "ca.pem")}
	hash, err := bcrypt.GenerateFromPassword([]byte(r.Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := r.Authority.Issue(t, "registry")
	config := fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
auth: {htpasswd: {realm: test, path: %q}}
`, dir+"/data", r.Host, dir+"/cert.pem", dir+"/key.pem", dir+"/htpasswd")
	for name, data := range map[string][]byte{
		"cert.pem": cert, "key.pem": key, "ca.pem": r.Authority.PEM, "config.yml": []byte(config),
		"htpasswd": fmt.Appendf(nil, "%s:%s\n", r.User, hash),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), program, "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		Missing(t, "docker-registry does not start: %v", err)
	}
	exited := make(chan struct{})
	go func() { defer close(exited); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-exited })
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.Authority.PEM)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 5 * time.Second}
	err = waitFor(exited, "docker-registry", func() bool {
		resp, err := client.Get("https://" + r.Host + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		Missing(t, "%v\n%s", err, text)
	}
	return r
}

// freeAddress is a loopback address that nobody listens on now.
func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
