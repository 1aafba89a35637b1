package intel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Bounds of the conversation with a publisher.
const (
	maxRedirects = 5
	stallTimeout = time.Minute // without a byte

	maxExport  = 4 << 30   // an all.zip
	maxTracker = 1 << 30   // Debian's JSON was about 70 MB in 2026
	maxKEV     = 64 << 20  // 1.3 MB in 2025
	maxCSV     = 256 << 20 // a modified_id.csv
)

// fetcher gets publishers' files. Safe for concurrent use.
type fetcher struct {
	client *http.Client
	agent  string // User-Agent
	stall  time.Duration
}

// download is a fetched file; the caller removes it.
type download struct {
	path         string
	digest       string // SHA-256, hex
	etag         string
	lastModified string
}

// errUnchanged: the publisher says that its file is the one known already.
var errUnchanged = errors.New("unchanged")

// errAbsent: the publisher has no such file.
var errAbsent = errors.New("not found")

func newFetcher(version string) *fetcher {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
	}
	transport.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &fetcher{
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		agent:  "breakwater/" + version,
		stall:  stallTimeout,
	}
}

func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if next.URL.Scheme == "file" {
		return errors.New("a redirect leaves the network")
	}
	return checkURL(next.URL)
}

// checkURL refuses what would fetch advisories over a wire that anybody can
// write to: the bundle is signed here, so its input must be authentic.
func checkURL(u *url.URL) error {
	switch u.Scheme {
	case "https", "file":
		return nil
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
			return nil
		}
		return fmt.Errorf("%s: plain http is accepted from this host only; use https", u.Redacted())
	}
	return fmt.Errorf("%s: not an https, file or loopback http address", u.Redacted())
}

// get fetches a file of at most limit bytes into dir. known holds what an
// earlier answer said of itself; an unchanged file is errUnchanged, one that
// does not exist errAbsent. progress, if any, is called with bytes so far and
// in all (-1: unknown).
func (f *fetcher) get(ctx context.Context, address, dir string, limit int64, known Validator, progress func(done, total int64)) (download, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	response, err := f.open(ctx, address, known)
	if err != nil {
		return download{}, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up
	switch {
	case response.StatusCode == http.StatusNotModified:
		return download{}, errUnchanged
	case response.StatusCode == http.StatusNotFound:
		return download{}, fmt.Errorf("%s: %w", address, errAbsent)
	case response.StatusCode != http.StatusOK:
		return download{}, fmt.Errorf("%s: the publisher answered %s", address, response.Status)
	case response.ContentLength > limit:
		return download{}, fmt.Errorf("%s: %d bytes are more than the bound of %d", address, response.ContentLength, limit)
	}
	body := &watchedReader{r: response.Body, total: response.ContentLength, progress: progress, stall: f.stall}
	body.timer = time.AfterFunc(f.stall, func() { cancel(fmt.Errorf("no data for %s", f.stall)) })
	defer body.timer.Stop()
	got, err := save(body, dir, limit)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return download{}, fmt.Errorf("%s: %w", address, err)
	}
	got.etag, got.lastModified = response.Header.Get("ETag"), response.Header.Get("Last-Modified")
	return got, nil
}

func (f *fetcher) open(ctx context.Context, address string, known Validator) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", f.agent)
	if known.ETag != "" {
		request.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		request.Header.Set("If-Modified-Since", known.LastModified)
	}
	response, err := f.client.Do(request)
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it names the last redirect's address
		err = fmt.Errorf("%s: %w", address, wrapped.Err)
	}
	return response, err
}

// save copies at most limit bytes to a new file in dir.
func save(r io.Reader, dir string, limit int64) (download, error) {
	file, err := os.CreateTemp(dir, "download-*")
	if err != nil {
		return download{}, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, h), io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("larger than the bound of %d bytes", limit)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return download{}, errors.Join(err, os.Remove(file.Name()))
	}
	return download{path: file.Name(), digest: hex.EncodeToString(h.Sum(nil))}, nil
}

// watchedReader reports progress and puts the stall timer off at every read.
type watchedReader struct {
	r           io.Reader
	done, total int64
	progress    func(done, total int64)
	stall       time.Duration
	timer       *time.Timer
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.done += int64(n)
	w.timer.Reset(w.stall)
	if w.progress != nil {
		w.progress(w.done, w.total)
	}
	return n, err
}
