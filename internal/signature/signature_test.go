package signature_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/signature"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fake is a repository in memory: manifests by tag or digest, blobs by digest.
type fake struct {
	manifests, blobs map[string][]byte
	attached         []string
}

func (f *fake) Manifest(_ context.Context, reference string) ([]byte, error) {
	return f.manifests[reference], nil
}

func (f *fake) Blob(_ context.Context, digest string, _ int64) ([]byte, error) {
	if b, ok := f.blobs[digest]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no blob %s", digest)
}

func (f *fake) Referrers(context.Context, string) ([]string, error) { return f.attached, nil }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var (
	image = digestOf([]byte("the image"))
	other = digestOf([]byte("another image"))
)

// attach puts one blob with a media type and annotations beside the image.
func (f *fake) attach(t testing.TB, tag bool, mediaType string, blob []byte, annotations map[string]string) {
	t.Helper()
	if f.manifests == nil {
		f.manifests, f.blobs = map[string][]byte{}, map[string][]byte{}
	}
	m, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": []any{map[string]any{
		"mediaType": mediaType, "digest": digestOf(blob), "size": len(blob), "annotations": annotations,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	f.blobs[digestOf(blob)] = blob
	if tag {
		f.manifests[strings.Replace(image, ":", "-", 1)+".sig"] = m
	} else {
		f.manifests[digestOf(m)] = m
		f.attached = append(f.attached, digestOf(m))
	}
}

func simple(digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"r.example/app"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, digest)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sign signs as cosign does.
func sign(key crypto.Signer, message []byte) []byte {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return must(key.Sign(rand.Reader, message, crypto.Hash(0)))
	}
	sum := sha256.Sum256(message)
	return must(key.Sign(rand.Reader, sum[:], crypto.SHA256))
}

func publicPEM(key crypto.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))}))
}

func certPEM(certs ...*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

func indent(text string) string { return "|\n" + strings.ReplaceAll("      "+text, "\n", "\n      ") }

func trust(t testing.TB, signers string) *signature.Trust {
	t.Helper()
	tr, err := signature.ParseTrust("trust.yaml", []byte("apiVersion: breakwater/v1\nkind: Trust\nsigners:\n"+signers))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func keyTrust(t testing.TB, key crypto.PublicKey) *signature.Trust {
	return trust(t, "- name: release\n  cosign:\n    key: "+indent(publicPEM(key))+"\n")
}

func verify(t testing.TB, tr *signature.Trust, f *fake) event.Signature {
	t.Helper()
	found, gaps, err := signature.Verify(t.Context(), tr, f, image, now)
	if err != nil || len(found) != 1 || len(gaps) != 0 {
		t.Fatalf("%+v, gaps %q, %v", found, gaps, err)
	}
	return found[0]
}

func accepted(t testing.TB, s event.Signature, signer string) {
	t.Helper()
	if !s.Verified || s.Signer != signer {
		t.Errorf("not accepted: %+v", s)
	}
}

func refused(t testing.TB, s event.Signature, why string) {
	t.Helper()
	if s.Verified || s.Signer != "" || !strings.Contains(s.Reason, why) {
		t.Errorf("%+v, want a refusal because %s", s, why)
	}
}

const simpleType = "application/vnd.dev.cosign.simplesigning.v1+json"

func TestCosignWithAKey(t *testing.T) {
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	for _, key := range []crypto.Signer{ec, ed, rs} {
		var f fake
		f.attach(t, true, simpleType, simple(image), map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sign(key, simple(image)))})
		accepted(t, verify(t, keyTrust(t, key.Public()), &f), "release")
		stranger := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		refused(t, verify(t, keyTrust(t, stranger.Public()), &f), "nobody who is trusted")
	}
	signed := func(doc, over []byte) *fake {
		var f fake
		f.attach(t, true, simpleType, doc, map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sign(ec, over))})
		return &f
	}
	tr := keyTrust(t, ec.Public())
	refused(t, verify(t, tr, signed(simple(image), simple(other))), "nobody who is trusted") // the document was changed
	refused(t, verify(t, tr, signed(simple(other), simple(other))), "signs another image")   // copied from another image
	attestation := []byte(strings.Replace(string(simple(image)), "container image signature", "something else", 1))
	refused(t, verify(t, tr, signed(attestation, attestation)), "no signature of an image")
	swapped := signed(simple(image), simple(image))
	for d := range swapped.blobs {
		swapped.blobs[d] = simple(other)
	}
	refused(t, verify(t, tr, swapped), "not the one that the manifest names")
	if found, _, err := signature.Verify(t.Context(), tr, &fake{}, image, now); err != nil || len(found) != 0 {
		t.Errorf("an image without signatures: %+v, %v", found, err)
	}
}

func dsse(key crypto.Signer, digest, predicate string) (statement, sig []byte) {
	statement = fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q}`, strings.TrimPrefix(digest, "sha256:"), predicate)
	const kind = "application/vnd.in-toto+json"
	return statement, sign(key, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement))
}

func bundle(statement, sig []byte, material map[string]any) []byte {
	return must(json.Marshal(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material,
		"dsseEnvelope": map[string]any{"payload": statement, "payloadType": "application/vnd.in-toto+json", "signatures": []any{map[string]any{"sig": sig}}},
	}))
}

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	predicate  = "https://sigstore.dev/cosign/sign/v1"
)

func TestBundleWithAKey(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	of := func(digest, predicate string) *fake {
		var f fake
		s, sig := dsse(key, digest, predicate)
		f.attach(t, false, bundleType, bundle(s, sig, map[string]any{"publicKey": map[string]any{"hint": "x"}}), nil)
		return &f
	}
	tr := keyTrust(t, key.Public())
	accepted(t, verify(t, tr, of(image, predicate)), "release")
	refused(t, verify(t, tr, of(other, predicate)), "signs another image")
	refused(t, verify(t, tr, of(image, "https://slsa.dev/provenance/v1")), "about the image, not the image")
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-1000 * time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
	return authority{must(x509.ParseCertificate(der)), key}
}

func (a authority) issue(t testing.TB, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "signer", Organization: []string{"acme"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	change(c)
	der := must(x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key))
	return must(x509.ParseCertificate(der)), key
}

const issuer = "https://issuer.example"

func fulcio(subject string, at time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{}
		c.NotBefore, c.NotAfter = at, at.Add(10*time.Minute)
		c.URIs = []*url.URL{must(url.Parse(subject))}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: must(asn1.MarshalWithParams(issuer, "utf8"))}}
	}
}

// log signs entries as Rekor does.
type rekor struct{ key *ecdsa.PrivateKey }

func (r rekor) id() []byte {
	sum := sha256.Sum256(must(x509.MarshalPKIXPublicKey(r.key.Public())))
	return sum[:]
}

func (r rekor) promise(body []byte, at time.Time) []byte {
	return sign(r.key, fmt.Appendf(nil, `{"body":"%s","integratedTime":%d,"logID":"%x","logIndex":7}`, base64.StdEncoding.EncodeToString(body), at.Unix(), r.id()))
}

func TestKeyless(t *testing.T) {
	ca, log := newAuthority(t), rekor{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	past := now.Add(-48 * time.Hour) // the certificate is long over, and held when it was used
	const subject = "https://git.example/acme/app/workflow"
	tr := trust(t, "- name: ci\n  keyless:\n    certificates: "+indent(certPEM(ca.cert))+"\n    rekor: "+indent(publicPEM(log.key.Public()))+
		"\n    identities: [{issuer: "+issuer+", subject: \"https://git.example/acme/*/workflow\"}]\n")
	type attempt struct {
		subject        string
		at             time.Time
		ca             authority
		log            rekor
		logged, signed []byte
	}
	try := func(change func(*attempt)) event.Signature {
		t.Helper()
		a := attempt{subject: subject, at: past.Add(time.Minute), ca: ca, log: log, signed: simple(image)}
		change(&a)
		cert, key := a.ca.issue(t, fulcio(a.subject, past))
		sig := sign(key, a.signed)
		if a.logged == nil {
			a.logged = a.signed
		}
		sum := sha256.Sum256(a.logged)
		body := fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%x"}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`,
			sum, base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString([]byte(certPEM(cert))))
		entry := must(json.Marshal(map[string]any{"SignedEntryTimestamp": a.log.promise(body, a.at),
			"Payload": map[string]any{"body": base64.StdEncoding.EncodeToString(body), "integratedTime": a.at.Unix(), "logIndex": 7, "logID": hex.EncodeToString(a.log.id())}}))
		var f fake
		f.attach(t, true, simpleType, a.signed, map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig),
			"dev.sigstore.cosign/certificate": certPEM(cert), "dev.sigstore.cosign/bundle": string(entry)})
		return verify(t, tr, &f)
	}
	accepted(t, try(func(*attempt) {}), "ci")
	refused(t, try(func(a *attempt) { a.subject = "https://git.example/evil/app/workflow" }), "names nobody who is trusted")
	refused(t, try(func(a *attempt) { a.subject = "https://git.example/acme/a/b/workflow" }), "names nobody who is trusted")
	refused(t, try(func(a *attempt) { a.at = past.Add(time.Hour) }), "does not hold")
	refused(t, try(func(a *attempt) { a.ca = newAuthority(t) }), "does not hold")
	refused(t, try(func(a *attempt) { a.log = rekor{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))} }), "of another log")
	refused(t, try(func(a *attempt) { a.logged = simple(other) }), "about another signature")
	refused(t, try(func(a *attempt) { a.signed = simple(other) }), "signs another image")

	cert, key := ca.issue(t, fulcio(subject, past))
	s, sig := dsse(key, image, predicate)
	sum := sha256.Sum256(s)
	body := fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"dsse","spec":{"payloadHash":{"algorithm":"sha256","value":"%x"},"signatures":[{"signature":%q,"verifier":%q}]}}`,
		sum, base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString([]byte(certPEM(cert))))
	material := map[string]any{"certificate": map[string]any{"rawBytes": cert.Raw}, "tlogEntries": []any{map[string]any{
		"logIndex": "7", "logId": map[string]any{"keyId": log.id()}, "integratedTime": fmt.Sprint(past.Add(time.Minute).Unix()),
		"inclusionPromise": map[string]any{"signedEntryTimestamp": log.promise(body, past.Add(time.Minute))}, "canonicalizedBody": body}}}
	var f fake
	f.attach(t, false, bundleType, bundle(s, sig, material), nil)
	accepted(t, verify(t, tr, &f), "ci")
}

func TestNotation(t *testing.T) {
	ca := newAuthority(t)
	tr := trust(t, "- name: acme\n  notation:\n    certificates: "+indent(certPEM(ca.cert))+"\n    identities: [{subject: \"CN=signer,O=acme\"}]\n")
	type attempt struct {
		cert            func(*x509.Certificate)
		head            map[string]any
		digest, replace string
		ca              authority
	}
	try := func(change func(*attempt)) event.Signature {
		t.Helper()
		a := attempt{cert: func(*x509.Certificate) {}, digest: image, ca: ca, head: map[string]any{
			"alg": "ES256", "cty": "application/vnd.cncf.notary.payload.v1+json", "crit": []string{"io.cncf.notary.signingScheme"},
			"io.cncf.notary.signingScheme": "notary.x509", "io.cncf.notary.signingTime": now.Format(time.RFC3339)}}
		change(&a)
		cert, key := a.ca.issue(t, a.cert)
		head := base64.RawURLEncoding.EncodeToString(must(json.Marshal(a.head)))
		payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"targetArtifact":{"mediaType":"m","digest":%q,"size":1}}`, a.digest))
		sum := sha256.Sum256([]byte(head + "." + payload))
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		if a.replace != "" {
			payload = base64.RawURLEncoding.EncodeToString([]byte(a.replace))
		}
		var f fake
		f.attach(t, false, "application/jose+json", must(json.Marshal(map[string]any{"payload": payload, "protected": head,
			"signature": base64.RawURLEncoding.EncodeToString(sig), "header": map[string]any{"x5c": [][]byte{cert.Raw, a.ca.cert.Raw}}})), nil)
		return verify(t, tr, &f)
	}
	accepted(t, try(func(*attempt) {}), "acme")
	refused(t, try(func(a *attempt) { a.digest = other }), "signs another image")
	refused(t, try(func(a *attempt) { a.replace = `{"targetArtifact":{"digest":"` + image + `" }}` }), "does not fit")
	refused(t, try(func(a *attempt) { a.ca = newAuthority(t) }), "does not hold")
	refused(t, try(func(a *attempt) { a.cert = func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) } }), "does not hold")
	refused(t, try(func(a *attempt) {
		a.cert = func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	}), "does not hold")
	refused(t, try(func(a *attempt) {
		a.cert = func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}
	}), "does not hold")
	refused(t, try(func(a *attempt) { a.cert = func(c *x509.Certificate) { c.Subject.CommonName = "other" } }), "names nobody who is trusted")
	refused(t, try(func(a *attempt) { a.head["crit"] = []string{"io.cncf.notary.signingScheme", "x"} }), "critical, and not understood")
	refused(t, try(func(a *attempt) { a.head["alg"] = "none" }), "is not accepted")
	refused(t, try(func(a *attempt) { a.head["alg"] = "ES384" }), "does not fit")
	refused(t, try(func(a *attempt) { a.head["io.cncf.notary.expiry"] = now.Format(time.RFC3339) }), "it ended on")
	refused(t, try(func(a *attempt) { a.head["io.cncf.notary.signingScheme"] = "notary.x509.signingAuthority" }), "not read in this version")

	var f fake
	f.attach(t, false, "application/cose", []byte{0xd2}, nil)
	refused(t, verify(t, tr, &f), "COSE envelope is not readable")
}

func TestMistakesInTrust(t *testing.T) {
	f := func(signer, want string) {
		t.Helper()
		_, err := signature.ParseTrust("t.yaml", []byte("apiVersion: breakwater/v1\nkind: Trust\nsigners:\n- "+signer+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", signer, err, want)
		}
	}
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	f(`{name: a}`, "needs a name and one of")
	f(`{name: A B, cosign: {key: x}}`, "is no public key")
	f(`{name: a, cosign: {}}`, "key: is missing")
	f("name: a\n  cosign:\n    key: "+indent(publicPEM(weak.Public())), "at least 2048")
	f(`{name: a, notation: {certificates: x}}`, "holds no certificate")
	f(`{name: a, notation: {certificates: x, identities: [{subject: "**"}]}}`, "is everybody")
}

func FuzzVerify(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ca := newAuthority(f)
	tr := trust(f, "- name: a\n  cosign:\n    key: "+indent(publicPEM(key.Public()))+"\n- name: b\n  notation:\n    certificates: "+indent(certPEM(ca.cert))+"\n")
	s, sig := dsse(key, other, predicate)
	envelope, _ := realCOSE(f)
	f.Add("application/cose", envelope, "", "")
	for _, kind := range []string{simpleType, bundleType, "application/jose+json", "application/cose"} {
		f.Add(kind, []byte(`{}`), "", "")
		f.Add(kind, bundle(s, sig, nil), certPEM(ca.cert), `{"Payload":{}}`)
	}
	f.Fuzz(func(t *testing.T, kind string, blob []byte, cert, entry string) {
		var src fake
		src.attach(t, true, kind, blob, map[string]string{"dev.cosignproject.cosign/signature": "AAAA", "dev.sigstore.cosign/certificate": cert, "dev.sigstore.cosign/bundle": entry})
		found, _, err := signature.Verify(t.Context(), tr, &src, image, now)
		for _, one := range found {
			if one.Verified || err != nil {
				t.Errorf("accepted: %+v, %v", one, err)
			}
		}
	})
}
