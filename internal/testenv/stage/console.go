package stage

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

// Console is the server as a person with the first password reaches it.
type Console struct {
	URL    string // its address
	client *http.Client
}

// Login opens a session. The certificate was made by the server that this
// program just started on loopback, so it is not checked here; people compare
// the fingerprint that `up` prints.
func Login(ctx context.Context, address, password string) (*Console, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &Console{URL: address, client: &http.Client{
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

func (c *Console) do(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
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

func (c *Console) Get(ctx context.Context, path string, into any) error {
	status, body, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %s", path, status, body)
	}
	return json.Unmarshal(body, into)
}

// Apply puts policies in force and waits until the host enforces them.
func (c *Console) Apply(ctx context.Context, source []byte) error {
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
	return Poll(ctx, 30*time.Second, "the host enforces generation "+strconv.FormatUint(applied.Generation, 10), func() (bool, error) {
		status, err := c.Host(ctx)
		return err == nil && status.Generation >= applied.Generation, nil
	})
}

// Except adds an exception, until tomorrow, to a policy in force.
func (c *Console) Except(ctx context.Context, name, match, reason string) error {
	var stored struct {
		Source string `json:"source"`
	}
	if err := c.Get(ctx, "/api/v1/policies/"+url.PathEscape(name), &stored); err != nil {
		return err
	}
	expires := time.Now().Add(24 * time.Hour).Format(time.DateOnly)
	exception := fmt.Sprintf("\nexceptions:\n  - match: %s\n    reason: %s\n    expires: %s\n", match, reason, expires)
	return c.Apply(ctx, []byte(stored.Source+exception))
}

// Incident is an incident with its address.
type Incident struct {
	ID uint64 `json:"id"`
	event.Incident
}

// Incidents are those after an id, the oldest first.
func (c *Console) Incidents(ctx context.Context, after uint64) ([]Incident, error) {
	var page struct {
		Items []Incident `json:"items"`
	}
	// after=0 would mean "the newest first".
	path := "/api/v1/incidents?limit=500"
	if after > 0 {
		path += "&after=" + strconv.FormatUint(after, 10)
	}
	err := c.Get(ctx, path, &page)
	return page.Items, err
}

// Await waits for an incident after an id that fits.
func (c *Console) Await(ctx context.Context, after uint64, fits func(Incident) bool) (Incident, error) {
	var found Incident
	err := Poll(ctx, 15*time.Second, "an incident about it", func() (bool, error) {
		list, err := c.Incidents(ctx, after)
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

// Poll asks until the answer is yes, an error, or the time is over.
func Poll(ctx context.Context, within time.Duration, what string, ask func() (bool, error)) error {
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

// Host is what the one host told of itself last.
func (c *Console) Host(ctx context.Context) (event.HostStatus, error) {
	var hosts struct {
		Items []struct {
			Status event.HostStatus `json:"status"`
		} `json:"items"`
	}
	if err := c.Get(ctx, "/api/v1/hosts", &hosts); err != nil {
		return event.HostStatus{}, err
	}
	if len(hosts.Items) != 1 {
		return event.HostStatus{}, fmt.Errorf("%d hosts, want this one", len(hosts.Items))
	}
	return hosts.Items[0].Status, nil
}
