package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxTries      = 5
	maxRedirects  = 10
	maxWait       = 60 * time.Second // that a registry can ask for at once
	firstWait     = 500 * time.Millisecond
	maxOtherBody  = 16 << 20 // bytes of an answer that is no blob
	maxDrainedTry = 64 << 10
)

// polite is how registries are spoken to: again when they are busy or limit the
// rate, as late as they wish within bounds; never in the clear outside of this
// host; never reading an answer without end.
type polite struct {
	inner http.RoundTripper
	wait  func(ctx context.Context, d time.Duration) error
	// outside: the registry is not on this host, and cannot lead there.
	outside bool
	// distrusted holds, by host, why its certificate was refused: it is not
	// asked in the clear instead.
	distrusted sync.Map
}

func newPolite(inner http.RoundTripper) *polite { return &polite{inner: inner, wait: sleep} }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errPlainHTTP = errors.New("plain HTTP is only spoken on loopback; give the registry a certificate")

// RoundTrip implements http.RoundTripper.
func (p *polite) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && (p.outside || !isLoopback(req.URL.Hostname())) {
		return nil, errPlainHTTP
	}
	if redirects(req) > maxRedirects {
		return nil, fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if why, ok := p.distrusted.Load(req.URL.Host); ok && req.URL.Scheme != "https" {
		return nil, why.(error)
	}
	again := (req.Method == http.MethodGet || req.Method == http.MethodHead) && req.Body == nil
	for try := 1; ; try++ {
		resp, err := p.inner.RoundTrip(req)
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			p.distrusted.Store(req.URL.Host, err)
		}
		wait, busy := busyFor(resp, err, try)
		if !busy || !again || try == maxTries || req.Context().Err() != nil {
			return bounded(req, resp), err
		}
		if resp != nil {
			_, _ = io.CopyN(io.Discard, resp.Body, maxDrainedTry) // so that the connection can be used again
			_ = resp.Body.Close()
		}
		if err := p.wait(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// redirects counts how often a request was sent elsewhere: the client above
// does not.
func redirects(req *http.Request) (n int) {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
		n++
	}
	return n
}

// isLoopback: names other than localhost could lead anywhere.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// busyFor says whether it is worth trying again, and when.
func busyFor(resp *http.Response, err error, try int) (time.Duration, bool) {
	wait := firstWait << (try - 1)
	wait += rand.N(wait / 4) // many who are refused at once do not come back at once
	if err != nil {
		var op *net.OpError
		return wait, errors.As(err, &op) && op.Timeout() || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "connection reset")
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if asked, ok := retryAfter(resp.Header.Get("Retry-After")); ok {
			return max(wait, asked), asked <= maxWait
		}
		return wait, true
	case http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return wait, true
	}
	return 0, false
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(s string) (time.Duration, bool) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1<<20 {
		return time.Duration(n) * time.Second, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t)), true
	}
	return 0, false
}

// bounded cuts every answer that is no blob: those are measured by whoever
// asked for them.
func bounded(req *http.Request, resp *http.Response) *http.Response {
	if resp == nil || strings.Contains(req.URL.Path, "/blobs/") || redirected(req) {
		return resp
	}
	resp.Body = &cut{resp.Body, maxOtherBody}
	return resp
}

// redirected: registries hand blobs out from storage elsewhere.
func redirected(req *http.Request) bool {
	for ; req.Response != nil && req.Response.Request != nil; req = req.Response.Request {
		if strings.Contains(req.Response.Request.URL.Path, "/blobs/") {
			return true
		}
	}
	return false
}

type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxOtherBody)
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
