package scan_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/signature"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// pusher writes into a real registry by its HTTP interface.
type pusher struct {
	t        *testing.T
	base     string // https://127.0.0.1:port
	registry *testenv.Registry
	client   *http.Client
	repo     string
}

func newPusher(t *testing.T, r *testenv.Registry, repo string) *pusher {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.Authority.PEM)
	return &pusher{t, "https://" + r.Host, r, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, repo}
}

func (p *pusher) do(method, address, kind string, body []byte, want int) *http.Response {
	p.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = p.base + address
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.registry != nil {
		req.SetBasicAuth(p.registry.User, p.registry.Password)
	}
	req.Header.Set("Content-Type", kind)
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		p.t.Fatalf("%s %s: %s %s", method, address, resp.Status, text)
	}
	return resp
}

func (p *pusher) blob(data []byte) (digest string) {
	p.t.Helper()
	digest = "sha256:" + imagetest.Digest(data)
	at := p.do("POST", "/v2/"+p.repo+"/blobs/uploads/", "", nil, http.StatusAccepted).Header.Get("Location")
	join := "?"
	if strings.Contains(at, "?") {
		join = "&"
	}
	p.do("PUT", at+join+"digest="+url.QueryEscape(digest), "application/octet-stream", data, http.StatusCreated)
	return digest
}

func (p *pusher) manifest(tag, kind string, data []byte) (digest string) {
	p.t.Helper()
	p.do("PUT", "/v2/"+p.repo+"/manifests/"+tag, kind, data, http.StatusCreated)
	return "sha256:" + imagetest.Digest(data)
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// image pushes an image with one file under a tag.
func (p *pusher) image(tag, text string) (digest string) {
	p.t.Helper()
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(p.t, imagetest.File("etc/motd", text))}}
	m, blobs := i.OCIManifest(p.t, imagetest.OCIGzip)
	for _, b := range blobs {
		p.blob(b.Data)
	}
	return p.manifest(tag, ociManifest, m.Data)
}

// attach makes a manifest with one layer and an empty configuration.
func (p *pusher) attach(tag, kind, subject string, blob []byte, annotations map[string]string) []byte {
	p.t.Helper()
	empty := []byte("{}")
	m := map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": p.blob(empty), "size": len(empty)},
		"layers": []any{map[string]any{"mediaType": kind, "digest": p.blob(blob), "size": len(blob), "annotations": annotations}}}
	if subject != "" {
		m["subject"] = map[string]any{"mediaType": ociManifest, "digest": subject, "size": 1}
	}
	data, err := json.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	if tag == "" {
		tag = "sha256:" + imagetest.Digest(data)
	}
	p.manifest(tag, ociManifest, data)
	return data
}

func (p *pusher) cosign(key *ecdsa.PrivateKey, on, about string) {
	p.t.Helper()
	doc := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, about)
	sum := sha256.Sum256(doc)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	p.attach(strings.Replace(on, ":", "-", 1)+".sig", "application/vnd.dev.cosign.simplesigning.v1+json", "", doc,
		map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)})
}

// bundle attaches a signature as a referrer; the registry has no interface for
// them, so a tag lists it.
func (p *pusher) bundle(key *ecdsa.PrivateKey, on string) {
	p.t.Helper()
	m := p.referrer(key, on)
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
		"manifests": []any{map[string]any{"mediaType": ociManifest, "digest": "sha256:" + imagetest.Digest(m), "size": len(m), "artifactType": bundleType}}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.manifest(strings.Replace(on, ":", "-", 1), "application/vnd.oci.image.index.v1+json", index)
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// referrer pushes a manifest with a signature that names the image as its subject.
func (p *pusher) referrer(key *ecdsa.PrivateKey, on string) []byte {
	p.t.Helper()
	const kind = "application/vnd.in-toto+json"
	body := fmt.Appendf(nil, `{"subject":[{"digest":{"sha256":%q}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}`, strings.TrimPrefix(on, "sha256:"))
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(body), body))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	blob, err := json.Marshal(map[string]any{"dsseEnvelope": map[string]any{"payload": body, "payloadType": kind, "signatures": []any{map[string]any{"sig": sig}}}})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.attach("", bundleType, on, blob, nil)
}

// TestSignaturesInARegistry: the same policy accepts what the release key signed
// and refuses everything else, asked of a real registry.
func TestSignaturesInARegistry(t *testing.T) {
	registry := testenv.NewRegistry(t)
	p := newPusher(t, registry, "team/app")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	trust, err := signature.ParseTrust("trust.yaml", []byte("apiVersion: breakwater/v1\nkind: Trust\nsigners:\n- name: release\n  cosign:\n    key: |\n      "+strings.ReplaceAll(text, "\n", "\n      ")))
	if err != nil {
		t.Fatal(err)
	}
	approved := p.image("approved", "approved")
	policies, err := policy.Parse("p.yaml", []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: signed}\nimage: {signedBy: [release], approved: [\""+approved+"\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	judge, err := policy.NewSet(0, policies)
	if err != nil {
		t.Fatal(err)
	}
	ann := image.NewRegistry(image.RegistryOptions{Username: registry.User, Password: registry.Password, CA: registry.Authority.PEM})
	try := func(tag string, allowed bool, why string) *report.Report {
		t.Helper()
		rep := mustScan(t, scan.Options{Target: "registry:" + registry.Host + "/team/app:" + tag, Registry: ann, Trust: trust, Judge: judge})
		if rep.Verdict.Allowed != allowed || !allowed && !strings.Contains(rep.Verdict.Violations[0].Message, why) {
			t.Errorf("%s: %+v, signatures %+v, gaps %q", tag, rep.Verdict, rep.Signatures, rep.Gaps)
		}
		if !slices.Contains(rep.Looked, "signatures") {
			t.Errorf("%s: looked for %q", tag, rep.Looked)
		}
		return rep
	}
	good := p.image("good", "good")
	p.cosign(key, good, good)
	try("good", true, "")
	p.bundle(key, p.image("bundle", "bundle"))
	try("bundle", true, "")
	try("approved", true, "")
	p.image("unsigned", "unsigned")
	try("unsigned", false, "it has no signature")
	replayed := p.image("replayed", "replayed")
	p.cosign(key, replayed, good)
	try("replayed", false, "it signs another image")
	foreign := p.image("foreign", "foreign")
	p.cosign(stranger, foreign, foreign)
	try("foreign", false, "nobody who is trusted")

	// A tag that is moved to what nobody signed.
	p.image("good", "evil")
	try("good", false, "it has no signature")

	// An archive that claims to be what is signed, and is not.
	liar := imagetest.Image{Tags: []string{registry.Host + "/team/app@" + good}, Layers: [][]byte{imagetest.Tar(t, imagetest.File("etc/motd", "evil"))}}
	claimed := mustScan(t, scan.Options{Target: "docker-archive:" + archive(t, liar.Archive(t, imagetest.Old)), Registry: ann, Trust: trust, Judge: judge, Verify: true})
	if claimed.Verdict.Allowed || len(claimed.Signatures) > 0 || len(claimed.Image.Pinned) > 0 {
		t.Errorf("a name that lies: %+v, %+v", claimed.Verdict, claimed.Signatures)
	}

	// Without trust nothing was looked for, and the policy refuses.
	rep := mustScan(t, scan.Options{Target: "registry:" + registry.Host + "/team/app:bundle", Registry: ann, Judge: judge})
	if rep.Verdict.Allowed || !strings.Contains(rep.Verdict.Violations[0].Message, "not looked for") {
		t.Errorf("without trust: %+v", rep.Verdict)
	}
}

// TestSignaturesByReferrers: a registry that has the interface of OCI's
// distribution 1.1 is asked by it, and no tag lists anything.
func TestSignaturesByReferrers(t *testing.T) {
	asked := make(chan string, 100)
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			asked <- r.URL.Path
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p := &pusher{t: t, base: server.URL, client: server.Client(), repo: "team/app"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	trust, err := signature.ParseTrust("trust.yaml", []byte("apiVersion: breakwater/v1\nkind: Trust\nsigners:\n- name: release\n  cosign:\n    key: |\n      "+strings.ReplaceAll(text, "\n", "\n      ")))
	if err != nil {
		t.Fatal(err)
	}
	p.referrer(key, p.image("signed", "signed"))
	p.image("unsigned", "unsigned")
	for tag, want := range map[string]int{"signed": 1, "unsigned": 0} {
		host := strings.TrimPrefix(server.URL, "http://")
		rep := mustScan(t, scan.Options{Target: "registry:" + host + "/team/app:" + tag, Registry: image.NewRegistry(image.RegistryOptions{}), Trust: trust})
		if len(rep.Signatures) != want || want > 0 && rep.Signatures[0].Signer != "release" {
			t.Errorf("%s: %+v, gaps %q", tag, rep.Signatures, rep.Gaps)
		}
	}
	if len(asked) != 2 {
		t.Errorf("asked %d times by the interface", len(asked))
	}
}
