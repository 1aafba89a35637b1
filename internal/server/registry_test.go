package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/testenv"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// push puts a small Debian image with one package of its own into a registry.
func push(t *testing.T, r *testenv.Registry, repo, tag, pkg string) {
	t.Helper()
	img := imagetest.Image{Tags: []string{repo + ":" + tag}, Layers: [][]byte{imagetest.Tar(t,
		imagetest.File("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"),
		imagetest.File("var/lib/dpkg/status", "Package: "+pkg+"\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n"))}}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, img.Archive(t, imagetest.Old), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(r.Host + "/" + repo + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.Authority.PEM)
	err = remote.Write(ref, made, remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.User, Password: r.Password})))
	if err != nil {
		t.Fatal(err)
	}
}

func settings(r *testenv.Registry) map[string]any {
	return map[string]any{"address": r.Host, "repositories": []string{"team/*", "!team/old"}, "tags": []string{"!*-rc*"}, "username": r.User, "password": r.Password, "ca": string(r.Authority.PEM), "every": "1h"}
}

func putRegistry(t *testing.T, c *client, body map[string]any) (status int, text, token string) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ NotifyToken string }
	status, text = c.call("PUT", "/api/v1/registries/harbour", string(raw), &out, "Content-Type", "application/json")
	return status, text, out.NotifyToken
}

// TestARegistryIsRead goes from its settings to images that are judged, over
// TLS and with credentials, and follows what is pushed.
func TestARegistryIsRead(t *testing.T) {
	r := testenv.NewRegistry(t)
	push(t, r, "team/app", "1", "alpha")
	push(t, r, "team/app", "2-rc1", "candidate")
	push(t, r, "team/same", "1", "alpha") // the same content by another name
	push(t, r, "team/old", "1", "ancient")
	dir := t.TempDir()
	s := start(t, dir, nil)
	c := admin(t, s)
	status, text, token := putRegistry(t, c, settings(r))
	if status != 200 || token == "" || strings.Contains(text, r.Password) {
		t.Fatalf("%d %s", status, text)
	}
	tags := func() (all []store.RegistryTarget) {
		var out struct{ Items []store.RegistryTarget }
		c.call("GET", "/api/v1/registries/harbour/tags", "", &out)
		return out.Items
	}
	settled := func(n int) {
		t.Helper()
		eventually(t, func() (struct{}, error) {
			all := tags()
			for _, x := range all {
				if x.Pending || x.Error != "" {
					return struct{}{}, fmt.Errorf("%+v", x)
				}
			}
			if len(all) != n {
				return struct{}{}, fmt.Errorf("%d tags of %d: %+v", len(all), n, all)
			}
			return struct{}{}, nil
		})
	}
	settled(2)
	var found store.Answer
	if _, text := c.call("GET", "/api/v1/where?kind=package&name=alpha", "", &found); found.Images != 1 || !strings.HasPrefix(found.Items[0].Name, r.Host+"/team/") {
		t.Errorf("alpha: %s", text)
	}
	for _, absent := range []string{"candidate", "ancient"} {
		if c.call("GET", "/api/v1/where?kind=package&name="+absent, "", &found); found.Images != 0 {
			t.Errorf("%s was read", absent)
		}
	}

	// A push is told of; only who has the token may tell.
	push(t, r, "team/app", "3", "beta")
	const event = `{"events":[{"action":"push","target":{"repository":"team/app","tag":"3"}},{"action":"push","target":{"repository":"team/old","tag":"1"}},{"action":"pull","target":{"repository":"team/app","tag":"9"}}]}`
	stranger := newClient(t, s)
	for _, header := range []string{"", "Bearer wrong"} {
		if status, _ := stranger.call("POST", "/api/v1/registries/harbour/notifications", event, nil, "Authorization", header); status != 401 {
			t.Errorf("%q: %d", header, status)
		}
	}
	if status, text := stranger.call("POST", "/api/v1/registries/harbour/notifications", event, nil, "Authorization", "Bearer "+token); status != 204 {
		t.Errorf("%d %s", status, text)
	}
	settled(3)
	push(t, r, "team/new", "1", "gamma")
	const github = `{"action":"published","package":{"name":"new","namespace":"team","package_version":{"container_metadata":{"tag":{"name":"1"}}}}}`
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(github))
	if status, text := stranger.call("POST", "/api/v1/registries/harbour/notifications", github, nil, "X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil))); status != 204 {
		t.Errorf("%d %s", status, text)
	}
	settled(4)
	for _, p := range []string{"beta", "gamma"} {
		if c.call("GET", "/api/v1/where?kind=package&name="+p, "", &found); found.Images != 1 {
			t.Errorf("%s: %+v", p, found)
		}
	}

	// A wrong password is visible, and told without it.
	bad := settings(r)
	bad["password"] = "not this one"
	putRegistry(t, c, bad)
	eventually(t, func() (struct{}, error) {
		_, text := c.call("GET", "/registries/harbour", "", nil)
		if !strings.Contains(text, "refuses access") || strings.Contains(text, "not this one") {
			return struct{}{}, fmt.Errorf("page: %s", text)
		}
		return struct{}{}, nil
	})
	// Credentials do not follow to another address.
	moved := settings(r)
	moved["address"], moved["password"] = "evil.example", ""
	if status, text, _ := putRegistry(t, c, moved); status != 400 || !strings.Contains(text, "give the password") {
		t.Errorf("moved: %d %s", status, text)
	}
	for field, value := range map[string]any{"address": "http://x/y", "repositories": []string{}, "every": "1s", "ca": "no pem", "budget": -1, "tags": []string{"["}} {
		wrong := settings(r)
		wrong[field] = value
		if status, text, _ := putRegistry(t, c, wrong); status != 400 {
			t.Errorf("%s %v: %d %s", field, value, status, text)
		}
	}
	s.stop()
	for _, name := range []string{"breakwater.db", "breakwater.db-wal"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil && (strings.Contains(string(raw), r.Password) || strings.Contains(string(raw), token)) {
			t.Errorf("%s holds a secret in the clear", name)
		}
	}
}

// TestAKilledCrawlGoesOn: what was not read when the server was killed is read
// by the next one, and nothing twice.
func TestAKilledCrawlGoesOn(t *testing.T) {
	r := testenv.NewRegistry(t)
	const images = 8
	for i := range images {
		push(t, r, "team/app", fmt.Sprint(i), fmt.Sprintf("package-%d", i))
	}
	dir := t.TempDir()
	first, err := server.Open(t.Context(), server.Options{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.PutRegistry(t.Context(), web.RegistryInput{Password: r.Password, Registry: store.Registry{Name: "harbour", Address: r.Host, Repositories: []string{"team/app"}, Username: r.User, CA: string(r.Authority.PEM)}}, store.Actor{Name: "test"})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), serveDir+"="+dir, serveBus+"=127.0.0.1:0", serveNKey+"="+nkey(t))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	reader, err := store.Open(t.Context(), filepath.Join(dir, "breakwater.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	read := func() (n int, before map[string]string) {
		before = map[string]string{}
		all, err := reader.RegistryTargets(t.Context(), "harbour", 500, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Image != "" {
				n++
				before[x.Tag] = x.Scanned.String()
			}
		}
		return n, before
	}
	eventually(t, func() (struct{}, error) {
		if n, _ := read(); n < 2 {
			return struct{}{}, fmt.Errorf("%d images were read", n)
		}
		return struct{}{}, nil
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	n, before := read()
	t.Logf("killed after %d of %d", n, images)
	start(t, dir, nil)
	eventually(t, func() (struct{}, error) {
		if n, _ := read(); n != images {
			return struct{}{}, fmt.Errorf("%d images were read", n)
		}
		return struct{}{}, nil
	})
	_, after := read()
	for tag, at := range before {
		if after[tag] != at {
			t.Errorf("%s was read again", tag)
		}
	}
}
