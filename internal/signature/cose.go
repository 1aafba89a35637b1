package signature

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// COSE's labels (RFC 9052, 3.1; RFC 9360), its tag of a message with one
// signature, and CBOR's of a time in seconds.
const (
	coseAlgorithm   = int64(1)
	coseCritical    = int64(2)
	coseContentType = int64(3)
	coseChain       = int64(33)
	coseSign1       = 18
	cborEpoch       = 1
)

// coseNames are the algorithms (RFC 9053, RFC 8230) by the names of JWS.
var coseNames = map[int64]string{-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512"}

// sign1 is a COSE_Sign1 message (RFC 9052, 4.2).
type sign1 struct {
	protected, payload, signature []byte
	chain                         chain
	head                          protected
}

// cose judges a COSE envelope of the scheme notary.x509, by the same rules as
// a JWS envelope.
func (v *verifier) cose(l layer, blob []byte) (event.Signature, error) {
	found := event.Signature{Kind: kindNotation}
	if digestOf(blob) != l.Digest {
		return found, errors.New("the envelope is not the one that the manifest names")
	}
	m, err := parseSign1(blob)
	if err != nil {
		return found, fmt.Errorf("the COSE envelope is not readable: %w", err)
	}
	found.Identity = oneLine(m.chain[0].Subject.String())
	if err := jws(m.head.Algorithm, m.chain[0].PublicKey, m.signed(), m.signature); err != nil {
		return found, err
	}
	if err := m.head.check(&found, v.now); err != nil {
		return found, err
	}
	if found.Signer, err = v.trust.notary(m.chain, v.now); err != nil {
		return found, err
	}
	return found, v.target(m.payload)
}

// signed is what the signature is over: the Sig_structure of RFC 9052, 4.4.
func (m *sign1) signed() []byte {
	out := append([]byte{0x84, 0x6a}, "Signature1"...)
	out = cborBytes(out, m.protected)
	out = cborBytes(out, nil)
	return cborBytes(out, m.payload)
}

func parseSign1(blob []byte) (*sign1, error) {
	v, err := parseCBOR(blob)
	if err != nil {
		return nil, err
	}
	tag, _ := v.(cborTag)
	parts, _ := tag.value.([]any)
	if tag.number != coseSign1 || len(parts) != 4 {
		return nil, errors.New("it is no message with one signature")
	}
	m := &sign1{}
	var ok [3]bool
	m.protected, ok[0] = parts[0].([]byte)
	m.payload, ok[1] = parts[2].([]byte)
	m.signature, ok[2] = parts[3].([]byte)
	if !ok[0] || !ok[1] || !ok[2] {
		return nil, errors.New("a part of it is missing")
	}
	open, _ := parts[1].(cborMap)
	if m.chain, err = coseCertificates(open[coseChain]); err != nil {
		return nil, err
	}
	return m, m.header()
}

// coseCertificates reads x5chain: one certificate, or a list of them.
func coseCertificates(v any) (chain, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) > maxChain {
		return nil, fmt.Errorf("it has more than %d certificates", maxChain)
	}
	var raw [][]byte
	for _, one := range list {
		der, ok := one.([]byte)
		if !ok {
			return nil, errors.New("it has no certificates")
		}
		raw = append(raw, der)
	}
	return derChain(raw)
}

// header reads the header that is signed into the form that JWS has.
func (m *sign1) header() error {
	v, err := parseCBOR(m.protected)
	if err != nil {
		return err
	}
	fields, ok := v.(cborMap)
	if !ok {
		return errors.New("its header is no map")
	}
	number, _ := fields[coseAlgorithm].(int64)
	m.head.Algorithm = coseNames[number]
	m.head.ContentType, _ = fields[coseContentType].(string)
	m.head.Scheme, _ = fields["io.cncf.notary.signingScheme"].(string)
	m.head.Signed = coseTime(fields["io.cncf.notary.signingTime"])
	if expiry, there := fields["io.cncf.notary.expiry"]; there {
		if m.head.Expiry = coseTime(expiry); m.head.Expiry == "" {
			return errors.New("its end is no time")
		}
	}
	names, _ := fields[coseCritical].([]any)
	for _, name := range names {
		m.head.Critical = append(m.head.Critical, fmt.Sprint(name))
	}
	return nil
}

// coseTime gives a tagged time as JWS writes it, "" for anything else.
func coseTime(v any) string {
	tag, _ := v.(cborTag)
	seconds, ok := tag.value.(int64)
	if tag.number != cborEpoch || !ok || seconds < 0 || seconds > 1<<40 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

// target compares what was signed with the image.
func (v *verifier) target(payload []byte) error {
	var p struct {
		Target struct {
			Digest string `json:"digest"`
		} `json:"targetArtifact"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return fmt.Errorf("the signed document is not readable: %w", err)
	}
	return v.about(p.Target.Digest)
}
