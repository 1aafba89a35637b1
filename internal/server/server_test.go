package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/spool"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/store/storetest"
)

// client speaks to a server as a person or program on this host would.
type client struct {
	t     testing.TB
	s     *running
	http  *http.Client
	token string
}

func newClient(t testing.TB, s *running) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, s: s, http: &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// admin is a client with the local command line's token.
func admin(t testing.TB, s *running) *client {
	t.Helper()
	path, err := s.LocalToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	c.token = strings.TrimSpace(string(text))
	return c
}

func (c *client) request(method, path string, body io.Reader, headers ...string) *http.Response {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.s.URL()+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// call returns status and body, and decodes JSON into v when it is not nil.
func (c *client) call(method, path, body string, v any, headers ...string) (int, string) {
	c.t.Helper()
	res := c.request(method, path, strings.NewReader(body), headers...)
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return res.StatusCode, string(text)
}

// TestNothingIsOpenToStrangers walks the API's own description and the pages.
func TestNothingIsOpenToStrangers(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	var spec struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ Security []map[string][]string }
	}
	admin(t, s).call("GET", "/api/v1/openapi.json", "", &spec)
	if spec.OpenAPI != "3.1.0" || len(spec.Paths) < 12 {
		t.Fatalf("openapi %q with %d paths", spec.OpenAPI, len(spec.Paths))
	}
	c, open := newClient(t, s), 0
	for path, methods := range spec.Paths {
		for method, op := range methods {
			if op.Security != nil && len(op.Security) == 0 {
				open++
				continue
			}
			status, text := c.call(strings.ToUpper(method), strings.NewReplacer("{", "", "}", "").Replace(path), "{}", nil, "Content-Type", "application/json")
			if status != http.StatusUnauthorized || !strings.Contains(text, "log in") {
				t.Errorf("%s %s: %d %s", method, path, status, text)
			}
		}
	}
	if open != 2 {
		t.Errorf("%d operations are open, want healthz and enrol", open)
	}
	for _, path := range []string{"/", "/incidents", "/incidents/1", "/images", "/policies", "/hosts", "/audit", "/search?q=x", "/new-policy", "/nowhere"} {
		res := c.request("GET", path, nil)
		if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/login") {
			t.Errorf("%s: %d to %s", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if status, text := c.call("GET", "/api/v1/healthz", "", nil); status != 200 || !strings.Contains(text, "ok") {
		t.Errorf("health: %d %s", status, text)
	}
}

func TestLoginPageKeepsOthersOut(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	c := newClient(t, s)
	form := func(password string) string {
		return url.Values{"name": {"admin"}, "password": {password}, "next": {"//evil.example"}}.Encode()
	}
	post := func(password string, headers ...string) *http.Response {
		return c.request("POST", "/login", strings.NewReader(form(password)), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
	}
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if res := post(s.FirstPassword(), h...); res.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %d", h, res.StatusCode)
		}
	}
	if res := post("wrong"); res.StatusCode != http.StatusUnauthorized || len(res.Cookies()) > 0 {
		t.Errorf("wrong password: %d %v", res.StatusCode, res.Cookies())
	}
	res := post(s.FirstPassword())
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/" {
		t.Fatalf("right password: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	cookie := res.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-breakwater=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	page := c.request("GET", "/", nil)
	if page.StatusCode != 200 || !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") || page.Header.Get("X-Request-Id") == "" {
		t.Errorf("%d %v", page.StatusCode, page.Header)
	}
	if res := c.request("POST", "/logout", nil, "Sec-Fetch-Site", "cross-site"); res.StatusCode != http.StatusForbidden {
		t.Errorf("logout from another site: %d", res.StatusCode)
	}
	c.request("POST", "/logout", nil)
	if res := c.request("GET", "/", nil); res.StatusCode != http.StatusSeeOther {
		t.Errorf("after logout: %d", res.StatusCode)
	}
}

func TestViewersChangeNothing(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	value, err := s.Auth().NewToken(t.Context(), "ci", auth.Viewer, time.Hour, store.Actor{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	c.token = value
	for _, call := range [][2]string{{"POST", "/api/v1/policies"}, {"DELETE", "/api/v1/policies/x"}, {"POST", "/api/v1/agents/tokens"}, {"DELETE", "/api/v1/agents/x"}, {"POST", "/policies"}} {
		if status, _ := c.call(call[0], call[1], "{}", nil); status != http.StatusForbidden {
			t.Errorf("%v: %d", call, status)
		}
	}
	if status, _ := c.call("GET", "/api/v1/incidents", "", nil); status != 200 {
		t.Errorf("reading: %d", status)
	}
}

const onePolicy = `apiVersion: breakwater/v1
kind: Policy
metadata:
  name: strict-images
image:
  maxSeverity: medium
`

func TestPoliciesAreCheckedVersionedSignedAndJudged(t *testing.T) {
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	agent := harbour(t, s.Server)
	c := admin(t, s)
	if status, text := c.call("POST", "/api/v1/policies", "apiVersion: breakwater/v1\nkind: Policy\nmetadata:\n  name: x\nrun:\n  exec: {drift: perhaps}\n", nil, "Content-Type", "application/yaml"); status != 422 || !strings.Contains(text, "policy:6:") {
		t.Errorf("wrong policy: %d %s", status, text)
	}
	var before, after struct{ Generation uint64 }
	c.call("GET", "/api/v1/policies", "", &before)
	if status, text := c.call("POST", "/api/v1/policies", onePolicy, &after, "Content-Type", "application/yaml"); status != 200 || after.Generation != before.Generation+1 {
		t.Fatalf("%d %s", status, text)
	}
	signed, err := s.PolicyFor(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(s.PolicyKey(), append([]byte(api.PolicySignatureContext), signed.Payload...), signed.Signature) {
		t.Error("the signature does not verify")
	}
	var b api.PolicyBundle
	if err := json.Unmarshal(signed.Payload, &b); err != nil || b.Target != agent || b.Generation != after.Generation || len(b.Policies) != 4 || !b.Expires.After(b.Issued) {
		t.Errorf("%+v %v", b, err)
	}
	eventually(t, func() (struct{}, error) {
		var img struct{ Image store.Image }
		c.call("GET", "/api/v1/images/"+storetest.Digest("a"), "", &img)
		if v := img.Image.Verdict; v == nil || v.Allowed || v.Generation != after.Generation {
			return struct{}{}, fmt.Errorf("the image was not judged again: %+v", v)
		}
		return struct{}{}, nil
	})
	if status, _ := c.call("DELETE", "/api/v1/policies/strict-images", "", nil); status != 200 {
		t.Errorf("delete: %d", status)
	}
	if status, _ := c.call("DELETE", "/api/v1/policies/strict-images", "", nil); status != 404 {
		t.Errorf("delete again: %d", status)
	}
	if _, err := s.PolicyFor(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("bundle for nobody: %v", err)
	}
	if err := s.Revoke(t.Context(), agent, store.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PolicyFor(t.Context(), agent); err == nil {
		t.Error("a revoked agent got a bundle")
	}
}

// TestConsoleEditor sends the form as a browser does.
func TestConsoleEditor(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	c := admin(t, s)
	post := func(name, base, source string) (int, string) {
		return c.call("POST", "/policies", url.Values{"name": {name}, "base": {base}, "source": {source}}.Encode(), nil, "Content-Type", "application/x-www-form-urlencoded")
	}
	if status, text := post("", "0", strings.Replace(onePolicy, "medium", "dreadful", 1)); status != 422 || !strings.Contains(text, "line 6, column") || !strings.Contains(text, "dreadful") {
		t.Errorf("wrong: %d %s", status, text)
	}
	if status, _ := post("", "0", onePolicy); status != http.StatusSeeOther {
		t.Errorf("new: %d", status)
	}
	changed := strings.ReplaceAll(onePolicy, "medium", "low")
	if status, _ := post("strict-images", "1", strings.ReplaceAll(changed, "\n", "\r\n")); status != http.StatusSeeOther {
		t.Errorf("edit: %d", status)
	}
	if status, text := post("strict-images", "1", onePolicy); status != http.StatusConflict || !strings.Contains(text, "version 2 is the newest") {
		t.Errorf("edit of an old version: %d %s", status, text)
	}
	if status, text := post("strict-images", "2", strings.Replace(onePolicy, "strict-images", "other", 1)); status != 422 || !strings.Contains(text, "keeps its name") {
		t.Errorf("renamed: %d %s", status, text)
	}
	if p, err := s.Store().Policy(t.Context(), "strict-images", 0); err != nil || p.Source != changed || p.Version != 2 || p.Author != "token local" {
		t.Errorf("%+v %v", p, err)
	}
	if status, _ := c.call("POST", "/policies/strict-images/delete", "", nil); status != http.StatusSeeOther {
		t.Errorf("take out of force: %d", status)
	}
	if _, text := c.call("GET", "/policies/strict-images", "", nil); !strings.Contains(text, "Out of force") {
		t.Errorf("its page does not say so")
	}
	if _, text := c.call("GET", "/policies/strict-images?version=1", "", nil); !strings.Contains(text, "Put version 1 in force again") {
		t.Errorf("the way back is not on the page")
	}
	if status, _ := post("strict-images", "3", onePolicy); status != http.StatusSeeOther {
		t.Errorf("in force again: %d", status)
	}
	if status, _ := post("", "0", strings.Repeat("# long\n", 1<<20)); status != http.StatusBadRequest {
		t.Errorf("too long: %d", status)
	}
}

// TestAnAgentFromEnrolmentToConsole goes the whole way over the real bus.
func TestAnAgentFromEnrolmentToConsole(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, func(o *server.Options) { o.Policies = baseline(t) })
	c := admin(t, s)
	var tok struct{ Token, Fingerprint string }
	for _, life := range []string{"721h", "-1s", "a week"} {
		if status, text := c.call("POST", "/api/v1/agents/tokens", `{"uses":1,"life":"`+life+`"}`, nil, "Content-Type", "application/json"); status != 400 || !strings.Contains(text, life) {
			t.Errorf("life %s: %d %s", life, status, text)
		}
	}
	if status, text := c.call("POST", "/api/v1/agents/tokens", `{"uses":1,"life":"1h"}`, &tok, "Content-Type", "application/json"); status != 200 || tok.Fingerprint != s.Fingerprint() {
		t.Fatalf("token: %d %s", status, text)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	stranger := newClient(t, s)
	enrol := func(token, host, key string, v any) (int, string) {
		body, _ := json.Marshal(api.EnrolRequest{Token: token, Host: host, NKey: key})
		return stranger.call("POST", "/api/v1/agents/enrol", string(body), v, "Content-Type", "application/json")
	}
	for _, bad := range []struct {
		token, host, key string
		want             int
	}{{"guess", "h", public, 403}, {tok.Token, "h", "UNOKEY", 400}, {tok.Token, "a b", public, 400}} {
		if status, text := enrol(bad.token, bad.host, bad.key, nil); status != bad.want {
			t.Errorf("%+v: %d %s", bad, status, text)
		}
	}
	var me api.EnrolResponse
	if status, text := enrol(tok.Token, "harbour-1", public, &me); status != 200 {
		t.Fatalf("enrol: %d %s", status, text)
	}
	if status, _ := enrol(tok.Token, "harbour-1", public, nil); status != 403 {
		t.Errorf("the token was used twice: %d", status)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	agent, err := bus.Connect(ctx, bus.AgentOptions{URL: me.BusURL, CA: me.BusCA, NKeySeed: seed, Agent: me.Agent})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	signed := eventually(t, func() (api.Signed, error) { return agent.Policy(ctx) })
	if !ed25519.Verify(me.PolicyKey, append([]byte(api.PolicySignatureContext), signed.Payload...), signed.Signature) {
		t.Error("the policy that came over the bus does not verify")
	}
	if _, err := agent.Status(ctx, event.HostStatus{Agent: me.Agent, Host: "harbour-1", Generation: 3}); err != nil {
		t.Error(err)
	}
	q, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	done := make(chan error, 1)
	go func() { done <- agent.Uplink(ctx, q) }()
	for i := range 20 {
		key := fmt.Sprintf("k%d", i)
		body, _ := json.Marshal(storetest.Incident(key))
		if _, err := q.Append(ctx, api.RecordIncident, key, time.Now(), body); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() (int, error) {
		var got struct{ Items []store.Incident }
		c.call("GET", "/api/v1/incidents?agent="+me.Agent, "", &got)
		if len(got.Items) != 20 {
			return 0, fmt.Errorf("%d incidents arrived", len(got.Items))
		}
		return 20, nil
	})
	if _, text := c.call("GET", "/hosts/"+me.Agent, "", nil); !strings.Contains(text, "harbour-1") {
		t.Errorf("host page: %s", text)
	}
	cancel()
	<-done
}

// eventually tries until it works, for a bounded time.
func eventually[T any](t *testing.T, try func() (T, error)) T {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		v, err := try()
		if err == nil {
			return v
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestStreamResumes: a reader that comes back with its last id misses nothing.
func TestStreamResumes(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server) // incidents 1 to 6
	c := admin(t, s)
	read := func(n int, path string, headers ...string) (ids []string) {
		res := c.request("GET", path, nil, headers...)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for len(ids) < n && lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
		}
		return ids
	}
	if got := read(4, "/api/v1/incidents/stream?after=2"); strings.Join(got, " ") != "3 4 5 6" {
		t.Errorf("from 2: %v", got)
	}
	if got := read(1, "/api/v1/incidents/stream?after=2&outcome=not+covered"); strings.Join(got, " ") != "5" {
		t.Errorf("filtered: %v", got)
	}
	if err := s.Ingest(t.Context(), storetest.Batch(agent, storetest.Record(t, 99, api.RecordIncident, "new", drift("new")))); err != nil {
		t.Fatal(err)
	}
	if got := read(2, "/api/v1/incidents/stream?after=2", "Last-Event-ID", "5"); strings.Join(got, " ") != "6 7" {
		t.Errorf("resumed: %v", got)
	}
	if status, text := c.call("GET", "/api/v1/incidents/stream?since=yesterday", "", nil); status != 400 || !strings.Contains(text, "24h") {
		t.Errorf("bad filter: %d %s", status, text)
	}
}

func TestRestartKeepsKeysAndAccounts(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir, func(o *server.Options) { o.Policies = baseline(t) })
	if _, err := server.Open(t.Context(), server.Options{Dir: dir, Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("a second server on one folder: %v", err)
	}
	fingerprint, key := first.Fingerprint(), first.PolicyKey()
	path, err := first.LocalToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, _ := os.ReadFile(path)
	first.stop()
	second := start(t, dir, func(o *server.Options) { o.Policies = []byte("never read: there were policies") })
	if second.Fingerprint() != fingerprint || !second.PolicyKey().Equal(key) || second.FirstPassword() != "" {
		t.Error("keys changed, or there is a second first password")
	}
	if _, err := second.LocalToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(token, again) {
		t.Error("the local token changed")
	}
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && d.Type().IsRegular() && strings.Contains(p, "keys") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		change  func(*server.Options)
		want    string
	}{
		"damaged policy key": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "keys", "policy.key"), []byte("zz"), 0o600)
		}, nil, "policy key"},
		"damaged tls key": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "keys", "tls.key"), []byte("zz"), 0o600)
		}, nil, "certificate authority"},
		"lost tls certificate": {func(dir string) error { return os.Remove(filepath.Join(dir, "tls-ca.pem")) }, nil, "backup"},
		"damaged database": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "breakwater.db"), bytes.Repeat([]byte("x"), 8192), 0o600)
		}, nil, "damaged"},
		"bad address": {nil, func(o *server.Options) { o.Listen = "256.0.0.1:1" }, "console on 256.0.0.1:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			start(t, dir, nil).stop()
			if c.prepare != nil {
				if err := c.prepare(dir); err != nil {
					t.Fatal(err)
				}
			}
			o := server.Options{Dir: dir, Listen: "127.0.0.1:0"}
			if c.change != nil {
				c.change(&o)
			}
			s, err := server.Open(t.Context(), o)
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestAFailedFirstStartMakesNoPassword: it would never be shown.
func TestAFailedFirstStartMakesNoPassword(t *testing.T) {
	dir := t.TempDir()
	if _, err := server.Open(t.Context(), server.Options{Dir: dir, Listen: "256.0.0.1:1"}); err == nil {
		t.Fatal("opened")
	}
	if s := start(t, dir, nil); s.FirstPassword() == "" {
		t.Error("the next start shows no password")
	}
}

func TestOddRequests(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	harbour(t, s.Server)
	c := admin(t, s)
	for path, want := range map[string]int{
		"/api/v1/incidents/99": 404, "/api/v1/incidents/x": 422, "/api/v1/incidents?severity=dire": 400, "/api/v1/incidents?limit=9999": 422, "/api/v1/nothing": 404,
		"/api/v1/images/sha256:0": 404, "/api/v1/policies/x": 404, "/incidents/x": 404, "/incidents?since=later": 400, "/incidents?before=x": 400, "/images?worst=dire": 400,
		"/images?offset=-1": 400, "/images/x": 404, "/policies/x": 404, "/hosts/x": 404, "/nowhere": 404, "/search?q=" + strings.Repeat("x", 300): 400, "/search?q=%00%ff": 200,
		"/policies/x?version=y": 400, "/static/../server.go": 307, "/static/none.js": 404, "/incidents?container=%25&text=%5c": 200, "/api/v1/metrics": 200,
	} {
		if status, text := c.call("GET", path, "", nil); status != want {
			t.Errorf("%s: %d, want %d: %.200s", path, status, want, text)
		}
	}
	if status, _ := c.call("POST", "/api/v1/policies", strings.Repeat("# x\n", 2<<20), nil, "Content-Type", "application/yaml"); status != http.StatusRequestEntityTooLarge {
		t.Errorf("8 MiB: %d", status)
	}
	if status, text := c.call("GET", "/incidents/999", "", nil); status != 404 || !strings.Contains(text, "request <code>") {
		t.Errorf("problem page: %s", text)
	}
}

// What agents lost, and what they did not tell again, is there for Prometheus; an
// agent's own words make no labels.
func TestMetricsOfAgents(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	agent := harbour(t, s.Server)
	status := hostStatus(agent)
	status.Accounts = []event.Account{
		{Kind: event.KindExec, Emitted: 7, Dropped: 2, Repeated: 40}, {Kind: event.KindExec, Emitted: 9}, {Kind: "made\nup", Emitted: 1},
	}
	status.Containers = append(status.Containers, event.Guarded{Mode: "made up"})
	if _, err := s.Status(t.Context(), agent, status); err != nil {
		t.Fatal(err)
	}
	code, text := admin(t, s).call("GET", "/api/v1/metrics", "", nil)
	label := fmt.Sprintf(`{agent=%q,host="harbour-1"`, agent)
	for _, want := range []string{
		"breakwater_agent_events_total" + label + `,kind="exec",result="dropped"} 2`,
		"breakwater_agent_events_total" + label + `,kind="exec",result="repeated"} 40`,
		"breakwater_agent_containers" + label + `,mode="not covered"} 1`,
		"breakwater_agent_problems" + label + "} 1",
	} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("%d: no %s", code, want)
		}
	}
	if strings.Contains(text, "made") {
		t.Error("an agent's word is a label")
	}
}

// TestAnOlderServerMeetsANewerAgent: after a backup was restored, the next
// bundle is newer than what agents hold.
func TestAnOlderServerMeetsANewerAgent(t *testing.T) {
	s := start(t, t.TempDir(), func(o *server.Options) { o.Policies = baseline(t) })
	agent := harbour(t, s.Server)
	if _, err := s.Status(t.Context(), agent, event.HostStatus{Agent: agent, Host: "harbour-1", Generation: 50}); err != nil {
		t.Fatal(err)
	}
	signed, err := s.PolicyFor(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	var b api.PolicyBundle
	if err := json.Unmarshal(signed.Payload, &b); err != nil || b.Generation != 51 {
		t.Errorf("generation %d %v", b.Generation, err)
	}
}

func TestOutputsReadEachIncidentOnce(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	harbour(t, s.Server)
	out := s.Output("syslog", false)
	first, err := out.After(t.Context(), 0, 4)
	if err != nil || len(first) != 4 || first[0].Cursor != 1 {
		t.Fatalf("%+v %v", first, err)
	}
	if err := out.SaveCursor(t.Context(), first[3].Cursor); err != nil {
		t.Fatal(err)
	}
	at, err := s.Cursor(t.Context(), "syslog")
	if rest, err2 := out.After(t.Context(), at, 100); err != nil || err2 != nil || at != 4 || len(rest) != 2 {
		t.Errorf("at %d, then %d: %v %v", at, len(rest), err, err2)
	}
}

func TestAPolicyNamesDetectionsThatExist(t *testing.T) {
	s := start(t, t.TempDir(), func(*server.Options) {})
	for source, want := range map[string]string{
		"run: {detections: {disable: [no-such-thing]}}": "no-such-thing",
		"run: {detections: {disable: [reverse-shell]}}": "waiver",
	} {
		text := "apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\n" + source + "\n"
		if _, err := s.Apply(t.Context(), []byte(text), store.Actor{Name: "test"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", source, err, want)
		}
	}
}
