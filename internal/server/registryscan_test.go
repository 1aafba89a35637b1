package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/breakwater-sec/breakwater/internal/server"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func remoteOptions(r *testenv.Registry) []remote.Option {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.Authority.PEM)
	return []remote.Option{remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.User, Password: r.Password}))}
}

// sign attaches a signature to an image of a registry, as cosign does.
func sign(t *testing.T, r *testenv.Registry, key *ecdsa.PrivateKey, repo, tag string) {
	t.Helper()
	ref, err := name.ParseReference(r.Host + "/" + repo + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	at, err := remote.Head(ref, remoteOptions(r)...)
	if err != nil {
		t.Fatal(err)
	}
	doc := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, at.Digest)
	sum := sha256.Sum256(doc)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(doc, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref.Context().Tag(strings.Replace(at.Digest.String(), ":", "-", 1)+".sig"), img, remoteOptions(r)...); err != nil {
		t.Fatal(err)
	}
}

const trustedClean = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: clean}
mode: enforce
image: {signedBy: [release], malware: deny}
`

// TestImagesOfARegistryAreLookedThrough: what policies say of signatures and
// malware holds for images that no host has, also when it is said after they were
// read.
func TestImagesOfARegistryAreLookedThrough(t *testing.T) {
	r, daemon := testenv.NewRegistry(t), testenv.NeedClamd(t, 4<<20)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	trust := filepath.Join(t.TempDir(), "trust.yaml")
	if err := os.WriteFile(trust, []byte("apiVersion: breakwater/v1\nkind: Trust\nsigners:\n- name: release\n  cosign:\n    key: |\n      "+strings.ReplaceAll(text, "\n", "\n      ")), 0o600); err != nil {
		t.Fatal(err)
	}
	push(t, r, "team/app", "signed", "alpha")
	sign(t, r, key, "team/app", "signed")
	push(t, r, "team/app", "unsigned", "beta")
	push(t, r, "team/app", "evil", testenv.EICAR())
	sign(t, r, key, "team/app", "evil")
	s := start(t, t.TempDir(), func(o *server.Options) { o.Malware, o.Trust = "clamd://"+daemon.Address, trust })
	c := admin(t, s)
	if status, text, _ := putRegistry(t, c, settings(r)); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	policies := 0 // that a verdict shall be by
	verdicts := func() (map[string]string, error) {
		all, err := s.Store().Images(t.Context(), store.ImageFilter{})
		out := map[string]string{}
		for _, i := range all {
			_, tag, _ := strings.Cut(strings.TrimPrefix(i.Name, r.Host), ":")
			if i.Verdict == nil || len(i.Verdict.Policies) < policies {
				return out, fmt.Errorf("%s is not judged yet", tag)
			}
			out[tag] = ""
			for _, v := range i.Verdict.Violations {
				out[tag] += v.Rule + ": " + v.Message + "; "
			}
		}
		if err == nil && len(out) != 3 {
			err = fmt.Errorf("%d images: %v", len(out), out)
		}
		return out, err
	}
	eventually(t, verdicts)
	if _, err := s.Apply(t.Context(), []byte(trustedClean), store.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	policies = 1
	if err := s.CrawlRegistry(t.Context(), "harbour", store.Actor{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	got := eventually(t, func() (map[string]string, error) {
		got, err := verdicts()
		if err == nil && strings.Contains(fmt.Sprint(got), "not looked") {
			err = fmt.Errorf("%v", got)
		}
		return got, err
	})
	if got["signed"] != "" || !strings.Contains(got["unsigned"], "it has no signature") || strings.Contains(got["unsigned"], "malware") ||
		!strings.Contains(got["evil"], "image.malware: 1 malicious file") || strings.Contains(got["evil"], "signature") {
		t.Errorf("%q", got)
	}
}
