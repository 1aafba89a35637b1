package image

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// RegistryOptions say who asks registries, and whom it trusts. The zero value
// asks anonymously and trusts what the system trusts.
type RegistryOptions struct {
	// Username and Password, or Token (sent as a bearer's), are for the registry
	// Host (HOST or HOST:PORT), or for every one that is asked when it is empty.
	// Others are asked anonymously: an image can name any.
	Username, Password, Token string
	Host                      string
	// Keychain uses Docker's and Podman's configuration of the calling user:
	// logins, identity tokens, and credential helpers, which are programs that it
	// runs (docker-credential-ecr-login, -gcr, -acr-env and so on).
	Keychain bool
	// CA holds certificates (PEM) that are trusted besides the system's.
	CA []byte
	// CertDir has a folder per registry with its CA in *.crt, as Docker's
	// /etc/docker/certs.d; empty for none.
	CertDir string
}

// DockerCertDir is where Docker looks for registries' certificates.
const DockerCertDir = "/etc/docker/certs.d"

// Registry reads images from registries (OCI distribution-spec 1.1). Plain HTTP
// is spoken on loopback only. Safe for concurrent use.
type Registry struct {
	o RegistryOptions

	mu      sync.Mutex
	pullers map[string]*remote.Puller // by registry
}

// NewRegistry prepares asking registries; it does not connect yet.
func NewRegistry(o RegistryOptions) *Registry {
	return &Registry{o: o, pullers: map[string]*remote.Puller{}}
}

// Open resolves a reference and opens its image. Nothing but manifests and the
// configuration is fetched yet.
func (r *Registry) Open(ctx context.Context, reference, platform string, limits Limits) (*Source, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("is no image reference: %w", err)
	}
	host := ref.Context().RegistryStr()
	p, err := r.puller(host)
	if err != nil {
		return nil, err
	}
	got, err := p.Get(ctx, ref)
	if err != nil {
		return nil, explainRegistry(host, err)
	}
	rep := &repository{name: ref.Context(), puller: p}
	res, err := Resolve(ctx, got.Manifest, Choice{Platform: platform}, limits, rep.fetch)
	if err != nil {
		return nil, explainRegistry(host, err)
	}
	res.Tags = []string{ref.Name(), ref.Context().Name() + "@" + got.Digest.String()}
	open := func(ctx context.Context, i int) (*Content, error) {
		blob, err := rep.open(ctx, res.Blobs[i], limits.withDefaults().Bytes)
		if err != nil {
			return nil, err
		}
		return &Content{Stream: blob}, nil
	}
	return &Source{Image: res.Image, Open: open, Blobs: res.digests()}, nil
}

// Tags lists the tags of a repository, at most limit.
func (r *Registry) Tags(ctx context.Context, repo string, limit int) (tags []string, err error) {
	n, err := name.NewRepository(repo)
	if err != nil {
		return nil, fmt.Errorf("is no repository: %w", err)
	}
	p, err := r.puller(n.RegistryStr())
	if err != nil {
		return nil, err
	}
	l, err := p.Lister(ctx, n)
	for err == nil && l.HasNext() && len(tags) < limit {
		var page *remote.Tags
		if page, err = l.Next(ctx); err == nil {
			tags = append(tags, page.Tags...)
		}
	}
	if err != nil {
		return nil, explainRegistry(n.RegistryStr(), err)
	}
	return tags[:min(len(tags), limit)], nil
}

// Digest asks what a reference names now: the digest of its manifest or index.
func (r *Registry) Digest(ctx context.Context, reference string) (string, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", fmt.Errorf("is no image reference: %w", err)
	}
	p, err := r.puller(ref.Context().RegistryStr())
	if err != nil {
		return "", err
	}
	d, err := p.Head(ctx, ref)
	if err != nil {
		return "", explainRegistry(ref.Context().RegistryStr(), err)
	}
	return d.Digest.String(), nil
}

// puller keeps one client per registry: connections and tokens are used again.
func (r *Registry) puller(host string) (*remote.Puller, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pullers[host]; p != nil {
		return p, nil
	}
	roots, err := r.roots(host)
	if err != nil {
		return nil, err
	}
	guarded := newPolite(&http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 15 * time.Second,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: time.Minute, MaxResponseHeaderBytes: 256 << 10,
	})
	guarded.outside = !isLoopback((&url.URL{Host: host}).Hostname())
	opts := []remote.Option{
		remote.WithUserAgent("breakwater"), remote.WithTransport(guarded),
		// polite tries again, as the registry wishes; once is enough.
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Factor: 1, Steps: 1}), remote.WithRetryStatusCodes(),
		remote.WithRetryPredicate(func(error) bool { return false }),
	}
	switch {
	case r.o.Host != "" && registryName(r.o.Host) != host: // anonymously
	case r.o.Username != "" || r.o.Token != "":
		opts = append(opts, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.o.Username, Password: r.o.Password, RegistryToken: r.o.Token})))
	case r.o.Keychain:
		opts = append(opts, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	p, err := remote.NewPuller(opts...)
	if err == nil {
		r.pullers[host] = p
	}
	return p, err
}

// registryName is a registry's address as references have it.
func registryName(address string) string {
	n, err := name.NewRegistry(address)
	if err != nil {
		return address
	}
	return n.RegistryStr()
}

func (r *Registry) roots(host string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(r.o.CA) > 0 && !pool.AppendCertsFromPEM(r.o.CA) {
		return nil, errors.New("the registry's CA file holds no certificate (PEM)")
	}
	if r.o.CertDir == "" {
		return pool, nil
	}
	files, err := filepath.Glob(filepath.Join(r.o.CertDir, host, "*.crt"))
	for _, f := range files {
		if pem, err := os.ReadFile(f); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
	}
	return pool, err
}

// repository is where one image's blobs are.
type repository struct {
	name   name.Repository
	puller *remote.Puller
}

func (r *repository) fetch(ctx context.Context, d Descriptor, limit int64) ([]byte, error) {
	if !d.isConfig {
		got, err := r.puller.Get(ctx, r.name.Digest(d.Digest))
		if err != nil {
			return nil, err
		}
		return got.Manifest, nil
	}
	blob, err := r.open(ctx, d, limit)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

// open fetches a blob. What comes is checked against the digest and the size.
func (r *repository) open(ctx context.Context, d Descriptor, limit int64) (io.ReadCloser, error) {
	layer, err := r.puller.Layer(ctx, r.name.Digest(d.Digest))
	if err != nil {
		return nil, explainRegistry(r.name.RegistryStr(), err)
	}
	body, err := layer.Compressed()
	if err != nil {
		return nil, explainRegistry(r.name.RegistryStr(), err)
	}
	return newChecked(body, d, limit)
}

// checkedBlob ends with an error when it is not what its descriptor says.
type checkedBlob struct {
	io.ReadCloser
	d    Descriptor
	hash hash.Hash
	want string
	left int64
}

func newChecked(body io.ReadCloser, d Descriptor, limit int64) (io.ReadCloser, error) {
	want, err := digestHex(d.Digest)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	if d.Size < 0 || d.Size > limit {
		return nil, errors.Join(&LimitError{"bytes in one blob", limit}, body.Close())
	}
	return &checkedBlob{body, d, sha256.New(), want, d.Size}, nil
}

func (b *checkedBlob) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more would be too many
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("blob %s is longer than the %d bytes that its manifest says", b.d.Digest, b.d.Size)
	}
	b.hash.Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	if b.left > 0 {
		return n, fmt.Errorf("blob %s ends %d bytes too early", b.d.Digest, b.left)
	}
	if got := hex.EncodeToString(b.hash.Sum(nil)); got != b.want {
		return n, fmt.Errorf("blob %s: its content has the digest sha256:%s: it is damaged or forged", b.d.Digest, got)
	}
	return n, io.EOF
}

// explainRegistry names the reason and the way out.
func explainRegistry(host string, err error) error {
	if host == name.DefaultRegistry {
		host = "docker.io" // as everybody writes it
	}
	var answer *transport.Error
	var authority x509.UnknownAuthorityError
	var limit *LimitError
	var dns *net.DNSError
	switch {
	case errors.As(err, &limit):
		return err
	case errors.As(err, &answer):
		return explainAnswer(host, answer)
	case errors.As(err, &authority):
		return fmt.Errorf("registry %s: its certificate is signed by nobody known here; name the authority with --registry-ca FILE or put it into %s/%s/ca.crt: %w", host, DockerCertDir, host, authority)
	case errors.As(err, &dns):
		return fmt.Errorf("registry %s: %w", host, dns)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL can carry what a proxy or registry signed
	}
	if text := clean(err.Error()); text != err.Error() {
		return fmt.Errorf("registry %s: %s", host, text)
	}
	return fmt.Errorf("registry %s: %w", host, err)
}

// clean makes a registry's words fit for one line of a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), 300)])
}

func explainAnswer(host string, answer *transport.Error) error {
	words := http.StatusText(answer.StatusCode)
	if len(answer.Errors) > 0 {
		words = strings.ToLower(strings.ReplaceAll(clean(string(answer.Errors[0].Code)), "_", " "))
		if m := answer.Errors[0].Message; m != "" && !strings.EqualFold(m, words) {
			words += ": " + clean(m)
		}
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("registry %s refuses access (%s); log in with `docker login %s`, or check that the repository exists", host, words, host)
	case http.StatusNotFound:
		return fmt.Errorf("not found in registry %s: %s", host, words)
	case http.StatusTooManyRequests:
		return &limitedError{fmt.Sprintf("registry %s limits how often it is asked (%s); log in for a higher limit, or try again later", host, words)}
	}
	return fmt.Errorf("registry %s answers %d: %s", host, answer.StatusCode, words)
}
