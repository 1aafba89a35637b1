package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// console is the server as a person with the first password reaches it.
type console struct {
	url    string
	client *http.Client
}

// login opens a session. The certificate was made by the server that this
// program just started on loopback, so it is not checked here; people compare
// the fingerprint that `up` prints.
func login(ctx context.Context, address, password string) (*console, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &console{url: address, client: &http.Client{
		Jar: jar, Timeout: 20 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	form := url.Values{"name": {"admin"}, "password": {password}}
	status, body, err := c.do(ctx, http.MethodPost, "/login", "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return nil, err
	}
	if status != http.StatusSeeOther {
		return nil, fmt.Errorf("login: status %d: %s", status, body)
	}
	return c, nil
}

func (c *console) do(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, answer, err
}

func (c *console) get(ctx context.Context, path string, into any) error {
	status, body, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %s", path, status, body)
	}
	return json.Unmarshal(body, into)
}

// apply puts policies in force and waits until the host enforces them.
func (c *console) apply(ctx context.Context, source []byte) error {
	status, body, err := c.do(ctx, http.MethodPost, "/api/v1/policies", "application/yaml", source)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("apply policy: status %d: %s", status, body)
	}
	var applied struct {
		Generation uint64 `json:"generation"`
	}
	if err := json.Unmarshal(body, &applied); err != nil {
		return err
	}
	return poll(ctx, 30*time.Second, "the host enforces generation "+strconv.FormatUint(applied.Generation, 10), func() (bool, error) {
		var hosts struct {
			Items []struct {
				Status event.HostStatus `json:"status"`
			} `json:"items"`
		}
		err := c.get(ctx, "/api/v1/hosts", &hosts)
		return len(hosts.Items) == 1 && hosts.Items[0].Status.Generation >= applied.Generation, err
	})
}

// except adds an exception, until tomorrow, to a policy in force.
func (c *console) except(ctx context.Context, name, match, reason string) error {
	var stored struct {
		Source string `json:"source"`
	}
	if err := c.get(ctx, "/api/v1/policies/"+url.PathEscape(name), &stored); err != nil {
		return err
	}
	expires := time.Now().Add(24 * time.Hour).Format(time.DateOnly)
	exception := fmt.Sprintf("\nexceptions:\n  - match: %s\n    reason: %s\n    expires: %s\n", match, reason, expires)
	return c.apply(ctx, []byte(stored.Source+exception))
}

// stored is an incident with its address.
type stored struct {
	ID uint64 `json:"id"`
	event.Incident
}

// incidents are those after an id, the oldest first.
func (c *console) incidents(ctx context.Context, after uint64) ([]stored, error) {
	var page struct {
		Items []stored `json:"items"`
	}
	// after=0 would mean "the newest first".
	path := "/api/v1/incidents?limit=500"
	if after > 0 {
		path += "&after=" + strconv.FormatUint(after, 10)
	}
	err := c.get(ctx, path, &page)
	return page.Items, err
}

// await waits for an incident after an id that fits.
func (c *console) await(ctx context.Context, after uint64, fits func(stored) bool) (stored, error) {
	var found stored
	err := poll(ctx, 15*time.Second, "an incident about it", func() (bool, error) {
		list, err := c.incidents(ctx, after)
		for _, inc := range list {
			if inc.ID > after && fits(inc) {
				found = inc
				return true, nil
			}
		}
		return false, err
	})
	return found, err
}

var errNotYet = errors.New("it did not happen in time")

// poll asks until the answer is yes, an error, or the time is over.
func poll(ctx context.Context, within time.Duration, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ask()
		if ok || err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, errNotYet)
		case <-tick.C:
		}
	}
}
