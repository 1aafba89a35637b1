package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// Trust says who is trusted, by name. It never changes and is safe for
// concurrent use.
type Trust struct{ signers []*signer }

// Names of the signers.
func (t *Trust) Names() (names []string) {
	for _, s := range t.signers {
		names = append(names, s.name)
	}
	return names
}

// signer is one name, and one way to prove it.
type signer struct {
	name string
	key  crypto.PublicKey // cosign with a key

	// keyless cosign
	fulcio, between *x509.CertPool
	rekor           crypto.PublicKey

	authorities *x509.CertPool // notation
	identities  []identity     // keyless and notation: one of them
}

// identity is who a certificate must name.
type identity struct{ issuer, subject string }

const maxSigners = 200

var nameShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`) })

// ParseTrust reads a trust file; docs/signatures.md describes it. The error is
// a document.Errors with every mistake at its place.
func ParseTrust(name string, data []byte) (*Trust, error) {
	docs, err := document.Parse(name, data)
	if err != nil {
		return nil, err
	}
	t := &Trust{}
	r := document.NewReader(name)
	for _, doc := range docs {
		v := r.Value(doc)
		v.Map(document.Fields{
			"apiVersion": func(v document.Value) { v.Word("breakwater/v1") },
			"kind":       func(v document.Value) { v.Word("Trust") },
			"signers":    func(v document.Value) { v.List(maxSigners, t.signer) },
		})
		v.Require("apiVersion", "kind", "signers")
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Trust) signer(v document.Value) {
	s := &signer{}
	v.Map(document.Fields{
		"name": func(v document.Value) {
			if s.name = v.String(); s.name != "" && !nameShape().MatchString(s.name) {
				v.Fail("%q must be lower-case letters, digits, dots and hyphens", s.name)
			}
		},
		"cosign":   func(v document.Value) { s.cosign(v) },
		"keyless":  func(v document.Value) { s.keyless(v) },
		"notation": func(v document.Value) { s.notation(v) },
	})
	v.Require("name")
	if v.Kind == document.Map && len(v.Pairs) != 2 {
		v.Fail("needs a name and one of cosign, keyless, notation")
	}
	t.signers = append(t.signers, s)
}

func (s *signer) cosign(v document.Value) {
	v.Map(document.Fields{"key": func(v document.Value) { s.key = publicKey(v) }})
	v.Require("key")
}

func (s *signer) keyless(v document.Value) {
	v.Map(document.Fields{
		"certificates": func(v document.Value) { s.fulcio, s.between = authorities(v) },
		"rekor":        func(v document.Value) { s.rekor = publicKey(v) },
		"identities":   func(v document.Value) { s.identities = identities(v, true) },
	})
	v.Require("certificates", "rekor", "identities")
}

func (s *signer) notation(v document.Value) {
	v.Map(document.Fields{
		"certificates": func(v document.Value) { s.authorities, _ = authorities(v) },
		"identities":   func(v document.Value) { s.identities = identities(v, false) },
	})
	v.Require("certificates")
}

// publicKey reads a key in PEM (PKIX), of a kind that cosign makes.
func publicKey(v document.Value) crypto.PublicKey {
	block, _ := pem.Decode([]byte(v.String()))
	if block == nil {
		v.Fail("is no public key (PEM)")
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		v.Fail("is no public key: %v", err)
		return nil
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			v.Fail("is an RSA key of %d bits: at least 2048 are accepted", k.N.BitLen())
		}
	default:
		v.Fail("is a key of a kind that is not accepted: use ECDSA, Ed25519 or RSA")
	}
	return key
}

// authorities reads certificates (PEM): those that sign themselves are roots,
// the others stand between.
func authorities(v document.Value) (roots, between *x509.CertPool) {
	roots, between = x509.NewCertPool(), x509.NewCertPool()
	rest, count := []byte(v.String()), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			v.Fail("holds what is no certificate: %v", err)
			return roots, between
		}
		if cert.CheckSignatureFrom(cert) == nil {
			roots.AddCert(cert)
			count++
		} else {
			between.AddCert(cert)
		}
	}
	if count == 0 {
		v.Fail("holds no certificate of an authority (PEM, signed by itself)")
	}
	return roots, between
}

func identities(v document.Value, issuer bool) (list []identity) {
	v.List(maxSigners, func(v document.Value) {
		var i identity
		fields := document.Fields{"subject": func(v document.Value) { i.subject = pattern(v) }}
		need := []string{"subject"}
		if issuer {
			fields["issuer"] = func(v document.Value) { i.issuer = v.String() }
			need = append(need, "issuer")
		}
		v.Map(fields)
		v.Require(need...)
		list = append(list, i)
	})
	if len(list) == 0 {
		v.Fail("is empty: nobody could sign")
	}
	return list
}

func pattern(v document.Value) string {
	s := v.String()
	if _, err := path.Match(s, ""); err != nil {
		v.Fail("%q is no pattern", s)
	}
	if strings.Trim(s, "*?/") == "" {
		v.Fail("%q is everybody", s)
	}
	return s
}

// matches compares a subject: "*" stands for anything but "/", and "**" at the
// end for everything.
func (i identity) matches(subject string) bool {
	if all, ok := strings.CutSuffix(i.subject, "**"); ok && !strings.ContainsAny(all, "*?[") {
		return strings.HasPrefix(subject, all)
	}
	ok, err := path.Match(i.subject, subject)
	return ok && err == nil
}

var errSignature = errors.New("the signature does not fit what is signed")

// verify checks a signature of cosign. Over which digest of the message a key
// signs depends on its kind (Sigstore's algorithm registry) and on the version:
// ECDSA over the SHA-2 of its curve's size (seen of cosign 2.6 and 3.1), or over
// SHA-256 whatever the curve (what `cosign verify` takes by default); RSA (PKCS #1
// 1.5) over SHA-256; Ed25519 over the message, or over its SHA-512 as Ed25519ph
// (RFC 8032; seen of both).
func verify(key crypto.PublicKey, message, signature []byte) error {
	sum := sha256.Sum256(message)
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, sum[:], signature) || ecdsa.VerifyASN1(k, curveSum(k, message), signature)
	case ed25519.PublicKey:
		long := sha512.Sum512(message)
		ok = ed25519.Verify(k, message, signature) || ed25519.VerifyWithOptions(k, long[:], signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
	}
	if !ok {
		return errSignature
	}
	return nil
}

// curveSum is the digest of the size of a key's curve.
func curveSum(k *ecdsa.PublicKey, message []byte) []byte {
	switch bits := k.Params().BitSize; {
	case bits > 384:
		sum := sha512.Sum512(message)
		return sum[:]
	case bits > 256:
		sum := sha512.Sum384(message)
		return sum[:]
	}
	sum := sha256.Sum256(message)
	return sum[:]
}

// fingerprint names a key for people.
func fingerprint(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "key SHA-256 " + hex.EncodeToString(sum[:8])
}
