package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// envelope is the JWS JSON form of the Notary Project.
type envelope struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Signature string `json:"signature"`
	Header    struct {
		Chain [][]byte `json:"x5c"`
	} `json:"header"`
}

// protected is the part of the header that is signed.
type protected struct {
	Algorithm   string   `json:"alg"`
	Critical    []string `json:"crit"`
	ContentType string   `json:"cty"`
	Scheme      string   `json:"io.cncf.notary.signingScheme"`
	Signed      string   `json:"io.cncf.notary.signingTime"`
	Expiry      string   `json:"io.cncf.notary.expiry"`
}

// critical are the header fields that this package understands.
var critical = []string{"io.cncf.notary.signingScheme", "io.cncf.notary.expiry"}

// notation judges a JWS envelope of the scheme notary.x509. Its time of signing
// is the signer's own word, so the certificate must hold now.
func (v *verifier) notation(l layer, blob []byte) (event.Signature, error) {
	found := event.Signature{Kind: kindNotation}
	if digestOf(blob) != l.Digest {
		return found, errors.New("the envelope is not the one that the manifest names")
	}
	var e envelope
	if err := json.Unmarshal(blob, &e); err != nil {
		return found, fmt.Errorf("the envelope is not readable: %w", err)
	}
	certs, err := derChain(e.Header.Chain)
	if err != nil {
		return found, err
	}
	subject := certs[0].Subject.String()
	found.Identity = oneLine(subject)
	head, err := e.verify(certs)
	if err != nil {
		return found, err
	}
	if err := head.check(&found, v.now); err != nil {
		return found, err
	}
	if found.Signer, err = v.trust.notary(certs, v.now); err != nil {
		return found, err
	}
	return found, e.about(v)
}

// notary is the signer to whose authorities the chain leads.
func (t *Trust) notary(certs chain, now time.Time) (string, error) {
	why := errNobody
	for _, s := range t.signers {
		if s.authorities == nil {
			continue
		}
		if err := certs.verify(s.authorities, nil, now); err != nil {
			why = fmt.Errorf("its certificate does not hold: %w", err)
			continue
		}
		subject := certs[0].Subject.String()
		if len(s.identities) == 0 || slices.ContainsFunc(s.identities, func(i identity) bool { return i.matches(subject) }) {
			return s.name, nil
		}
		why = errors.New("its certificate names nobody who is trusted: " + oneLine(subject))
	}
	return "", why
}

// verify checks the signature over header and payload (RFC 7515, 5.2).
func (e *envelope) verify(certs chain) (*protected, error) {
	raw, err := base64.RawURLEncoding.DecodeString(e.Protected)
	if err != nil {
		return nil, fmt.Errorf("the envelope's header is not readable: %w", err)
	}
	var head protected
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("the envelope's header is not readable: %w", err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(e.Signature)
	if err != nil {
		return nil, fmt.Errorf("the envelope's signature is not readable: %w", err)
	}
	return &head, jws(head.Algorithm, certs[0].PublicKey, []byte(e.Protected+"."+e.Payload), signature)
}

// jws verifies the algorithms that the Notary Project allows.
func jws(algorithm string, key crypto.PublicKey, message, signature []byte) error {
	hash, known := map[string]crypto.Hash{
		"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512,
		"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	}[algorithm]
	if !known {
		return fmt.Errorf("the algorithm %s is not accepted", clip(algorithm))
	}
	h := hash.New()
	h.Write(message)
	sum := h.Sum(nil)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if algorithm[0] == 'P' && k.N.BitLen() >= 2048 && rsa.VerifyPSS(k, hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		size := (k.Params().BitSize + 7) / 8
		if algorithm[0] == 'E' && len(signature) == 2*size {
			r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
			if ecdsa.Verify(k, sum, r, s) {
				return nil
			}
		}
	}
	return errSignature
}

// check refuses what this package does not understand, and what is over.
func (h *protected) check(found *event.Signature, now time.Time) error {
	for _, c := range h.Critical {
		if !slices.Contains(critical, c) {
			return fmt.Errorf("its header %s is critical, and not understood", clip(c))
		}
	}
	if h.Scheme != "notary.x509" || !slices.Contains(h.Critical, "io.cncf.notary.signingScheme") {
		return fmt.Errorf("its scheme %s is not read in this version", clip(h.Scheme))
	}
	if h.ContentType != "application/vnd.cncf.notary.payload.v1+json" {
		return fmt.Errorf("it signs %s, no image", clip(h.ContentType))
	}
	if t, err := time.Parse(time.RFC3339, h.Signed); err == nil {
		found.Signed = t.UTC()
	}
	if h.Expiry == "" {
		return nil
	}
	end, err := time.Parse(time.RFC3339, h.Expiry)
	switch {
	case err != nil:
		return errors.New("its end is no time")
	case !now.Before(end):
		return errors.New("it ended on " + end.UTC().Format(time.DateOnly))
	}
	return nil
}

func (e *envelope) about(v *verifier) error {
	raw, err := base64.RawURLEncoding.DecodeString(e.Payload)
	if err != nil {
		return fmt.Errorf("the signed document is not readable: %w", err)
	}
	return v.target(raw)
}
