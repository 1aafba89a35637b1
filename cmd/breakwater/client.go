package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what a server may answer, in bytes.
const maxAnswer = 64 << 20

// clientFlags say which server a command speaks to and as whom. On the server's
// own host nothing need be said: its data folder tells.
type clientFlags struct {
	server, fingerprint, tokenFile string
}

func (f *clientFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "", "`URL` of the server (default: the one whose data folder this is)")
	cmd.Flags().StringVar(&f.fingerprint, "fingerprint", "", "SHA-256 of the server's certificate authority, as the server prints it")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "`file` with the token to prove oneself by")
}

// client makes requests to a server that it recognises by its authority.
type client struct {
	base  *url.URL
	token string // "" for requests that need none
	http  *http.Client
}

// localClient fills in what was not said from the server's folder on this host.
func (f clientFlags) localClient(data string) (*client, error) {
	folder := filepath.Join(data, "server")
	if f.server == "" {
		text, err := os.ReadFile(filepath.Join(folder, "url"))
		if err != nil {
			return nil, fmt.Errorf("which server? %w: give --server, --fingerprint and --token-file, or the server's --data", err)
		}
		f.server = strings.TrimSpace(string(text))
		if f.tokenFile == "" {
			f.tokenFile = filepath.Join(folder, "keys", "api.token")
		}
	}
	if f.fingerprint == "" {
		fingerprint, err := authorityFingerprint(filepath.Join(folder, "tls-ca.pem"))
		if err != nil {
			return nil, fmt.Errorf("whom to trust as %s? %w: give --fingerprint, which the server prints when it starts", f.server, err)
		}
		f.fingerprint = fingerprint
	}
	c, err := newClient(f.server, f.fingerprint)
	if err != nil {
		return nil, err
	}
	c.token, err = readToken(f.tokenFile)
	return c, err
}

func authorityFingerprint(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return "", fmt.Errorf("%s holds no certificate", path)
	}
	return pemFingerprint(text)
}

// readToken reads a secret from a file, so that it stands in no list of
// processes and in no shell's history.
func readToken(path string) (string, error) {
	if path == "" {
		return "", usage("--token-file is needed")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	token := strings.TrimSpace(string(raw))
	if err == nil && (token == "" || strings.ContainsAny(token, " \n")) {
		err = errors.New("want one token and nothing else")
	}
	if err != nil {
		return "", fmt.Errorf("token in %s: %w", path, err)
	}
	return token, nil
}

// newClient trusts the one authority with this fingerprint, for the host name
// in the URL.
func newClient(server, fingerprint string) (*client, error) {
	base, err := url.Parse(server)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || strings.Trim(base.Path, "/") != "" {
		return nil, usage("--server=%s: want https://host:port", server)
	}
	want, err := hex.DecodeString(strings.ToLower(strings.ReplaceAll(fingerprint, ":", "")))
	if err != nil || len(want) != sha256.Size {
		return nil, usage("--fingerprint=%s: want 32 bytes in hex, as the server prints when it starts", fingerprint)
	}
	trust := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it: the authority is pinned, the machine's are not asked
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyPinned(state, want) },
	}
	return &client{base: base, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: trust, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server sends elsewhere; is it a Breakwater server?")
		},
	}}, nil
}

// errPin says that somebody else answers.
var errPin = errors.New("the server's certificate is not of the authority with this fingerprint: compare it with what the server prints; somebody else may be answering")

// verifyPinned finds the pinned authority in what the server showed, and
// verifies its certificate by it alone.
func verifyPinned(state tls.ConnectionState, want []byte) error {
	roots := x509.NewCertPool()
	found := false
	for _, cert := range state.PeerCertificates {
		if sum := sha256.Sum256(cert.Raw); subtle.ConstantTimeCompare(sum[:], want) == 1 {
			roots.AddCert(cert)
			found = true
		}
	}
	if !found {
		return errPin
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: state.ServerName, Roots: roots})
	var name x509.HostnameError
	if errors.As(err, &name) {
		return fmt.Errorf("%w: start the server with --name %s", err, state.ServerName)
	}
	return err
}

// call sends body as JSON and reads the answer into result; both may be nil.
// A server that cannot be reached leads to exit code 4.
func (c *client) call(ctx context.Context, method, path string, body, result any) error {
	return kept(c.exchange(ctx, method, path, body, result))
}

// get asks with a query.
func (c *client) get(ctx context.Context, path string, query url.Values, result any) error {
	asking, base := *c, *c.base
	base.RawQuery = query.Encode()
	asking.base = &base
	return asking.call(ctx, http.MethodGet, path, nil, result)
}

func (c *client) exchange(ctx context.Context, method, path string, body, result any) error {
	var in io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		in, kind = bytes.NewReader(b), "application/yaml"
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path).String(), in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return c.refusal(res.StatusCode, text)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("server %s: its answer cannot be read: %w", c.base, err)
	}
	return nil
}

// unreachable tells a server that is away from one that is not the right one.
func unreachable(err error) error {
	if errors.Is(err, errPin) {
		return err
	}
	return &exitError{code: exitUnreachable, err: fmt.Errorf("server unreachable: %w", err)}
}

// refusal is what the server said, in its own words (RFC 9457).
func (c *client) refusal(status int, text []byte) error {
	var problem struct {
		Title, Detail string
		Errors        []struct{ Message string }
	}
	_ = json.Unmarshal(text, &problem) // another kind of answer has only its status
	said := problem.Detail
	if said == "" {
		said = http.StatusText(status)
	}
	for _, e := range problem.Errors {
		said += "\n  " + e.Message
	}
	err := fmt.Errorf("server %s: %s", c.base, said)
	if status == http.StatusServiceUnavailable || status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		return &exitError{code: exitUnreachable, err: err}
	}
	return err
}
