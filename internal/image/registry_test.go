package image

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
)

// fakeRegistry serves one image, badly where a test says so.
type fakeRegistry struct {
	*httptest.Server
	manifest imagetest.Blob
	blobs    map[string][]byte
	// before handles a request instead of the registry when it says true.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu   sync.Mutex
	asks []string // paths
}

func newFakeRegistry(t *testing.T, i imagetest.Image, form imagetest.Form) *fakeRegistry {
	t.Helper()
	m, blobs := i.OCIManifest(t, form)
	f := &fakeRegistry{manifest: m, blobs: map[string][]byte{}}
	for _, b := range blobs {
		f.blobs["sha256:"+imagetest.Digest(b.Data)] = b.Data
	}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asks = append(f.asks, r.URL.Path)
	f.mu.Unlock()
	if f.before != nil && f.before(w, r) {
		return
	}
	_, name, _ := strings.Cut(r.URL.Path, "/blobs/")
	switch {
	case r.URL.Path == "/v2/":
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write(f.manifest.Data)
	case f.blobs[name] != nil:
		_, _ = w.Write(f.blobs[name])
	default:
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}`, http.StatusNotFound)
	}
}

func (f *fakeRegistry) host() string { return strings.TrimPrefix(f.URL, "https://") }

func (f *fakeRegistry) options() RegistryOptions {
	return RegistryOptions{CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})}
}

// pull reads the whole image.
func pull(ctx context.Context, o RegistryOptions, ref string) error {
	src, err := NewRegistry(o).Open(ctx, ref, "linux/amd64", Limits{})
	if err != nil {
		return err
	}
	r := NewReader(ctx, Options{Verify: true}, len(src.Layers))
	for i := range src.Layers {
		c, err := src.Open(ctx, i)
		if err != nil {
			return err
		}
		l, err := r.Blob(c.Stream, nil, 0, ignore{})
		if err == nil {
			_, err = io.Copy(io.Discard, c.Stream)
		}
		if err = errors.Join(err, c.Stream.Close()); err != nil {
			return err
		}
		if l.DiffID != src.Layers[i].DiffID {
			return fmt.Errorf("layer %d is %s", i, l.DiffID)
		}
	}
	return nil
}

type ignore struct{}

func (ignore) Visit(Entry, io.Reader) error { return nil }

func tiny(t *testing.T) imagetest.Image {
	return imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("a", strings.Repeat("content ", 1000))), imagetest.Tar(t, imagetest.File("b", "c"))}}
}

func TestRegistry(t *testing.T) {
	for _, form := range []imagetest.Form{imagetest.OCI, imagetest.OCIGzip, imagetest.OCIZstd} {
		f := newFakeRegistry(t, tiny(t), form)
		if err := pull(t.Context(), f.options(), f.host()+"/a/b:1"); err != nil {
			t.Errorf("%v: %v", form, err)
		}
		if err := pull(t.Context(), f.options(), f.host()+"/a/b@sha256:"+imagetest.Digest(f.manifest.Data)); err != nil {
			t.Errorf("%v by digest: %v", form, err)
		}
	}
}

func TestHostileRegistry(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		for block := bytes.Repeat([]byte("a"), 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		before func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool
		ref    string
		want   string
	}{
		"other content in a blob": {before: func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			_, name, ok := strings.Cut(r.URL.Path, "/blobs/")
			if ok {
				other := bytes.Clone(f.blobs[name])
				other[len(other)/2] ^= 1
				_, _ = w.Write(other)
			}
			return ok
		}, want: "sha256"},
		"a blob without end": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := strings.Contains(r.URL.Path, "/blobs/")
			if ok {
				endless(w, r)
			}
			return ok
		}, want: "longer than"},
		"a blob cut off": {before: func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			_, name, ok := strings.Cut(r.URL.Path, "/blobs/")
			if ok {
				_, _ = w.Write(f.blobs[name][:10])
			}
			return ok
		}, want: "sha256"},
		"a manifest without end": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := strings.Contains(r.URL.Path, "/manifests/")
			if ok {
				endless(w, r)
			}
			return ok
		}, want: "registry"},
		"a greeting without end": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := r.URL.Path == "/v2/"
			if ok {
				endless(w, r)
			}
			return ok
		}, want: ""},
		"another manifest than the digest names": {ref: "@sha256:" + strings.Repeat("0", 64), want: "does not match"},
		"redirects in circles": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := strings.Contains(r.URL.Path, "/blobs/")
			if ok {
				http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			}
			return ok
		}, want: "stopped after 10 redirects"},
		"a redirect to plain HTTP": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := strings.Contains(r.URL.Path, "/blobs/")
			if ok {
				http.Redirect(w, r, "http://example.invalid/blob", http.StatusTemporaryRedirect)
			}
			return ok
		}, want: "plain HTTP is only spoken on loopback"},
		"control characters in an error": {before: func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) bool {
			ok := strings.Contains(r.URL.Path, "/manifests/")
			if ok {
				http.Error(w, `{"errors":[{"code":"DENIED","message":"\u001b[2Kno"}]}`, http.StatusForbidden)
			}
			return ok
		}, want: "refuses access"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeRegistry(t, tiny(t), imagetest.OCIGzip)
			if c.before != nil {
				f.before = func(w http.ResponseWriter, r *http.Request) bool { return c.before(f, w, r) }
			}
			ref := c.ref
			if ref == "" {
				ref = ":1"
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := pull(ctx, f.options(), f.host()+"/a/b"+ref)
			if ctx.Err() != nil {
				t.Fatal("it did not end by itself")
			}
			if c.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if strings.ContainsAny(fmt.Sprint(err), "\x1b\n") {
				t.Errorf("not one clean line: %q", err)
			}
		})
	}
}

// TestCredentialsStayWithTheRegistry: storage elsewhere, to which a registry
// sends for blobs, never sees them.
func TestCredentialsStayWithTheRegistry(t *testing.T) {
	f := newFakeRegistry(t, tiny(t), imagetest.OCIGzip)
	var leaked []string
	storage := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
			if r.Header.Get(h) != "" {
				leaked = append(leaked, h)
			}
		}
		_, _ = w.Write(f.blobs[strings.TrimPrefix(r.URL.Path, "/")])
	}))
	defer storage.Close()
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); !ok || user != "ann" || password != "pw" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		_, name, ok := strings.Cut(r.URL.Path, "/blobs/")
		if ok {
			http.Redirect(w, r, storage.URL+"/"+name, http.StatusTemporaryRedirect)
		}
		return ok
	}
	o := f.options()
	o.Username, o.Password = "ann", "pw"
	o.CA = append(o.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storage.Certificate().Raw})...)
	if err := pull(t.Context(), o, f.host()+"/a/b:1"); err != nil {
		t.Fatal(err)
	}
	if len(leaked) > 0 {
		t.Errorf("sent elsewhere: %q", leaked)
	}
}

// TestBearerToken follows the token flow (distribution-spec, "token
// authentication"), as Docker Hub, GHCR, Harbor, Quay and GitLab use it.
func TestBearerToken(t *testing.T) {
	f := newFakeRegistry(t, tiny(t), imagetest.OCIGzip)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			user, password, _ := r.BasicAuth()
			if user != "ann" || password != "pw" || r.URL.Query().Get("service") != "svc" || !strings.Contains(r.URL.Query().Get("scope"), "repository:a/b:pull") {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			fmt.Fprint(w, `{"token":"secret-token","expires_in":300}`)
			return true
		case r.Header.Get("Authorization") != "Bearer secret-token":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="svc",scope="repository:a/b:pull"`, f.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	o := f.options()
	if err := pull(t.Context(), o, f.host()+"/a/b:1"); err == nil || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("anonymous: %v", err)
	}
	o.Username, o.Password = "ann", "pw"
	if err := pull(t.Context(), o, f.host()+"/a/b:1"); err != nil {
		t.Error(err)
	}
}

// TestCredentialHelper: Docker's configuration names a program, as those of ECR,
// GAR and ACR are.
func TestCredentialHelper(t *testing.T) {
	f := newFakeRegistry(t, tiny(t), imagetest.OCI)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		ok := user == "AWS" && password == "from the helper"
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
		return !ok
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nread host\n[ \"$1 $host\" = \"get " + f.host() + "\" ] && echo '{\"ServerURL\":\"x\",\"Username\":\"AWS\",\"Secret\":\"from the helper\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test-login"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credHelpers":{"`+f.host()+`":"test-login"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	o := f.options()
	o.Keychain = true
	if err := pull(t.Context(), o, f.host()+"/a/b:1"); err != nil {
		t.Error(err)
	}
}

func TestBusyRegistryIsAskedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		status   int
		after    string
		times    int
		wantErr  string
		waitedAt time.Duration
	}{
		"seconds":      {http.StatusTooManyRequests, "7", 2, "", 7 * time.Second},
		"no word":      {http.StatusServiceUnavailable, "", 3, "", firstWait},
		"gateway":      {http.StatusBadGateway, "", 1, "", firstWait},
		"for ever":     {http.StatusTooManyRequests, "1", 1000, "limits how often it is asked", time.Second},
		"for too long": {http.StatusTooManyRequests, "86400", 1, "limits how often it is asked", 0},
		"refused":      {http.StatusForbidden, "", 1000, "refuses access", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var waits []time.Duration
			left := c.times
			p := newPolite(roundTrip(func(r *http.Request) (*http.Response, error) {
				resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body")), Request: r}
				if left > 0 {
					left--
					resp.StatusCode = c.status
					resp.Header.Set("Retry-After", c.after)
				}
				return resp, nil
			}))
			p.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
			req := httptest.NewRequest(http.MethodGet, "https://registry.example/v2/a/manifests/1", nil)
			req.Body = nil
			resp, err := p.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.StatusCode; (got == 200) != (c.wantErr == "") {
				t.Errorf("ended with %d after %v", got, waits)
			}
			if len(waits) >= maxTries || c.waitedAt > 0 && (len(waits) == 0 || waits[0] < c.waitedAt) || c.waitedAt == 0 && len(waits) > 0 {
				t.Errorf("waited %v", waits)
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPlainHTTPOnLoopbackOnly(t *testing.T) {
	f := newFakeRegistry(t, tiny(t), imagetest.OCI)
	plain := httptest.NewServer(f)
	defer plain.Close()
	if err := pull(t.Context(), RegistryOptions{}, strings.TrimPrefix(plain.URL, "http://")+"/a/b:1"); err != nil {
		t.Errorf("loopback: %v", err)
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "::1": true, "localhost": true, "10.0.0.1": false, "registry.local": false, "127.0.0.1.example": false} {
		if isLoopback(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
	// A certificate that is not trusted does not lead to plain HTTP.
	if err := pull(t.Context(), RegistryOptions{}, f.host()+"/a/b:1"); err == nil || !strings.Contains(err.Error(), "--registry-ca") {
		t.Errorf("unknown authority: %v", err)
	}
}

// TestARegistryOutsideDoesNotLeadHere: neither a redirect nor a token server may
// make this host ask its own services.
func TestARegistryOutsideDoesNotLeadHere(t *testing.T) {
	asked := 0
	p := newPolite(roundTrip(func(r *http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	}))
	p.outside = true
	for _, url := range []string{"http://127.0.0.1:2375/info", "http://localhost/", "http://[::1]/"} {
		if _, err := p.RoundTrip(httptest.NewRequest(http.MethodGet, url, nil)); !errors.Is(err, errPlainHTTP) || asked > 0 {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestCredentialsGoToTheirRegistryOnly: an image can name any registry.
func TestCredentialsGoToTheirRegistryOnly(t *testing.T) {
	for _, own := range []bool{true, false} {
		f := newFakeRegistry(t, tiny(t), imagetest.OCI)
		var logins []string
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			login := r.Header.Get("Authorization")
			if login == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			logins = append(logins, login)
			return false
		}
		o := f.options()
		o.Username, o.Password, o.Host = "ann", "secret", "registry.example"
		if own {
			o.Host = f.host()
		}
		if err := pull(t.Context(), o, f.host()+"/a/b:1"); (err == nil) != own || len(logins) > 0 != own {
			t.Errorf("own registry %v: %v, logins %q", own, err, logins)
		}
	}
}
