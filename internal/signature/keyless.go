package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// chain holds certificates, the signer's first.
type chain []*x509.Certificate

const maxChain = 10

func pemChain(text string) (chain, error) {
	var raw [][]byte
	for rest := []byte(text); len(raw) <= maxChain; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		raw = append(raw, block.Bytes)
	}
	return derChain(raw)
}

func derChain(raw [][]byte) (chain, error) {
	if len(raw) == 0 || len(raw) > maxChain {
		return nil, fmt.Errorf("it has %d certificates; 1 to %d are read", len(raw), maxChain)
	}
	var c chain
	for _, der := range raw {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("its certificate is not readable: %w", err)
		}
		c = append(c, cert)
	}
	return c, nil
}

// verify follows the chain to a root at a moment. Extensions that are critical
// and unknown are refused by crypto/x509.
func (c chain) verify(roots, between *x509.CertPool, at time.Time) error {
	pool := x509.NewCertPool()
	if between != nil {
		pool = between.Clone()
	}
	for _, cert := range c[1:] {
		pool.AddCert(cert)
	}
	_, err := c[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
	return err
}

// entry is an entry of Rekor's log with the log's promise to keep it.
type entry struct {
	body       []byte // canonical JSON
	integrated int64
	index      int64
	logID      string // hex
	promise    []byte
}

// oldEntry reads the bundle of cosign's annotation.
func oldEntry(text string) (*entry, error) {
	if text == "" {
		return nil, errors.New("it has no entry of the log, without which nobody knows when the certificate was used")
	}
	var b struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           string `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return nil, fmt.Errorf("its entry of the log is not readable: %w", err)
	}
	body, err := base64.StdEncoding.DecodeString(b.Payload.Body)
	if err != nil {
		return nil, fmt.Errorf("its entry of the log is not readable: %w", err)
	}
	return &entry{body, b.Payload.IntegratedTime, b.Payload.LogIndex, b.Payload.LogID, b.SignedEntryTimestamp}, nil
}

// bundleEntry is an entry as a bundle has it.
type bundleEntry struct {
	LogIndex string `json:"logIndex"`
	LogID    struct {
		KeyID []byte `json:"keyId"`
	} `json:"logId"`
	IntegratedTime string `json:"integratedTime"`
	Promise        struct {
		Timestamp []byte `json:"signedEntryTimestamp"`
	} `json:"inclusionPromise"`
	Body []byte `json:"canonicalizedBody"`
}

func (b *bundleEntry) read() (*entry, error) {
	index, err1 := strconv.ParseInt(b.LogIndex, 10, 64)
	integrated, err2 := strconv.ParseInt(b.IntegratedTime, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("its entry of the log is not readable: %w", err)
	}
	if len(b.Promise.Timestamp) == 0 {
		return nil, errors.New("its entry has no signed timestamp of the log (an entry of Rekor 2 is not read in this version)")
	}
	return &entry{b.Body, integrated, index, hex.EncodeToString(b.LogID.KeyID), b.Promise.Timestamp}, nil
}

// proveKeyless follows Fulcio's certificate at the moment that the log
// witnesses, and compares who it names.
func (t *Trust) proveKeyless(found *event.Signature, p proof) error {
	leaf := p.chain[0]
	subjects, issuer := names(leaf), issuerOf(leaf)
	found.Identity = oneLine(fmt.Sprintf("%v by %s", subjects, issuer))
	if err := verify(leaf.PublicKey, p.message, p.signature); err != nil {
		return err
	}
	why := errNobody
	for _, s := range t.signers {
		if s.fulcio == nil {
			continue
		}
		if err := p.entry.verify(s, p); err != nil {
			why = err
			continue
		}
		at := seconds(p.entry.integrated)
		if err := p.chain.verify(s.fulcio, s.between, at); err != nil {
			why = fmt.Errorf("its certificate does not hold: %w", err)
			continue
		}
		for _, i := range s.identities {
			if i.issuer == issuer && slices.ContainsFunc(subjects, i.matches) {
				found.Signer, found.Signed = s.name, at
				return nil
			}
		}
		why = errors.New("its certificate names nobody who is trusted: " + found.Identity)
	}
	return why
}

// names are the subject alternative names of a certificate.
func names(c *x509.Certificate) []string {
	list := slices.Clone(c.EmailAddresses)
	for _, u := range c.URIs {
		list = append(list, u.String())
	}
	return list
}

// Fulcio's extensions with the issuer of the identity: as raw text, and as a
// UTF8String.
var (
	oldIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
	newIssuer = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
)

func issuerOf(c *x509.Certificate) string {
	issuer := ""
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(newIssuer):
			var s string
			if rest, err := asn1.UnmarshalWithParams(e.Value, &s, "utf8"); err == nil && len(rest) == 0 {
				return s
			}
			return ""
		case e.Id.Equal(oldIssuer):
			issuer = string(e.Value)
		}
	}
	return issuer
}

// verify checks the log's promise, and that the entry is about this signature.
func (e *entry) verify(s *signer, p proof) error {
	der, err := x509.MarshalPKIXPublicKey(s.rekor)
	if err != nil {
		return err
	}
	id := sha256.Sum256(der)
	if e.logID != hex.EncodeToString(id[:]) {
		return errors.New("its entry is of another log than the trusted one")
	}
	// The canonical JSON (RFC 8785) that Rekor signs: keys in order, no space.
	signed := fmt.Sprintf(`{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":%d}`, base64.StdEncoding.EncodeToString(e.body), e.integrated, e.logID, e.index)
	if verify(s.rekor, []byte(signed), e.promise) != nil {
		return errors.New("the log's promise does not fit its entry")
	}
	return e.about(p)
}

// logged is the part of an entry's body that names what was signed: of the
// kinds hashedrekord 0.0.1 and dsse 0.0.1.
type logged struct {
	Kind string `json:"kind"`
	Spec struct {
		Data struct {
			Hash struct{ Value string } `json:"hash"`
		} `json:"data"`
		Signature struct {
			Content   []byte `json:"content"`
			PublicKey struct {
				Content []byte `json:"content"`
			} `json:"publicKey"`
		} `json:"signature"`
		PayloadHash struct{ Value string } `json:"payloadHash"`
		Signatures  []struct {
			Signature []byte `json:"signature"`
			Verifier  []byte `json:"verifier"`
		} `json:"signatures"`
	} `json:"spec"`
}

func (e *entry) about(p proof) error {
	var l logged
	if err := json.Unmarshal(e.body, &l); err != nil {
		return fmt.Errorf("its entry of the log is not readable: %w", err)
	}
	hash, signature, key, content := l.Spec.Data.Hash.Value, l.Spec.Signature.Content, l.Spec.Signature.PublicKey.Content, p.message
	switch {
	case l.Kind == "dsse" && len(l.Spec.Signatures) == 1 && p.envelope != nil:
		hash, signature, key, content = l.Spec.PayloadHash.Value, l.Spec.Signatures[0].Signature, l.Spec.Signatures[0].Verifier, p.envelope
	case l.Kind != "hashedrekord":
		return fmt.Errorf("its entry of the log is of the kind %s, which is not read", clip(l.Kind))
	}
	sum := sha256.Sum256(content)
	block, _ := pem.Decode(key)
	if hash != hex.EncodeToString(sum[:]) || !bytes.Equal(signature, p.signature) || block == nil || !bytes.Equal(block.Bytes, p.chain[0].Raw) {
		return errors.New("its entry of the log is about another signature")
	}
	return nil
}
