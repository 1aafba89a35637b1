package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// payload is cosign's simple signing document.
type payload struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
	} `json:"critical"`
}

// The annotations of a layer with a simple signing document.
const (
	signatureAnnotation   = "dev.cosignproject.cosign/signature"
	certificateAnnotation = "dev.sigstore.cosign/certificate"
	chainAnnotation       = "dev.sigstore.cosign/chain"
	bundleAnnotation      = "dev.sigstore.cosign/bundle"
)

// simple judges a signature over a simple signing document.
func (v *verifier) simple(l layer, blob []byte) (event.Signature, error) {
	found := event.Signature{Kind: kindCosign}
	if digestOf(blob) != l.Digest {
		return found, errors.New("the signed document is not the one that the manifest names")
	}
	signature, err := base64.StdEncoding.DecodeString(l.Annotations[signatureAnnotation])
	if err != nil || len(signature) == 0 {
		return found, errors.New("it has no signature in base64")
	}
	proof := proof{message: blob, signature: signature}
	if pem := l.Annotations[certificateAnnotation]; pem != "" {
		if proof.chain, err = pemChain(pem + "\n" + l.Annotations[chainAnnotation]); err != nil {
			return found, err
		}
		if proof.entry, err = oldEntry(l.Annotations[bundleAnnotation]); err != nil {
			return found, err
		}
	}
	if err := v.trust.prove(&found, proof); err != nil {
		return found, err
	}
	var p payload
	if err := json.Unmarshal(blob, &p); err != nil {
		return found, fmt.Errorf("the signed document is not JSON: %w", err)
	}
	if p.Critical.Type != "cosign container image signature" {
		return found, fmt.Errorf("the signed document is no signature of an image but %q", p.Critical.Type)
	}
	return found, v.about(p.Critical.Image.Digest)
}

// about compares the digest that was signed with the image's: a signature that
// was copied from another image is none.
func (v *verifier) about(signed string) error {
	if signed != v.digest {
		return fmt.Errorf("it signs another image, %s", clip(signed))
	}
	return nil
}

func clip(s string) string { return fmt.Sprintf("%.100q", s) }

// proof is what was signed, and by whom the signature says it is.
type proof struct {
	message, signature []byte
	// envelope is the payload of a DSSE envelope, whose log entry names it.
	envelope []byte
	chain    chain // keyless; empty with a key
	entry    *entry
}

// prove finds the signer.
func (t *Trust) prove(found *event.Signature, p proof) error {
	if len(p.chain) > 0 {
		return t.proveKeyless(found, p)
	}
	for _, s := range t.signers {
		if s.key != nil && verify(s.key, p.message, p.signature) == nil {
			found.Signer, found.Identity = s.name, fingerprint(s.key)
			return nil
		}
	}
	return errNobody
}

// bundle is Sigstore's bundle 0.3, as far as it is read.
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		Certificate struct {
			Raw []byte `json:"rawBytes"`
		} `json:"certificate"`
		Chain struct {
			Certificates []struct {
				Raw []byte `json:"rawBytes"`
			} `json:"certificates"`
		} `json:"x509CertificateChain"`
		Entries []bundleEntry `json:"tlogEntries"`
	} `json:"verificationMaterial"`
	Envelope *struct {
		Payload    []byte `json:"payload"`
		Type       string `json:"payloadType"`
		Signatures []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// statement is an in-toto statement.
type statement struct {
	Type    string `json:"_type"`
	Subject []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	PredicateType string `json:"predicateType"`
}

const (
	inToto        = "application/vnd.in-toto+json"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// bundle judges a signature in a bundle with a DSSE envelope.
func (v *verifier) bundle(l layer, blob []byte) (event.Signature, error) {
	found := event.Signature{Kind: kindCosign}
	if digestOf(blob) != l.Digest {
		return found, errors.New("the bundle is not the one that the manifest names")
	}
	var b bundle
	if err := json.Unmarshal(blob, &b); err != nil {
		return found, fmt.Errorf("the bundle is not readable: %w", err)
	}
	e := b.Envelope
	if e == nil || len(e.Signatures) != 1 || e.Type != inToto {
		return found, errors.New("the bundle holds no envelope with one signature over an in-toto statement")
	}
	var s statement
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		return found, fmt.Errorf("the signed statement is not JSON: %w", err)
	}
	p, err := b.proof()
	if err != nil {
		return found, err
	}
	if err := v.trust.prove(&found, p); err != nil {
		return found, err
	}
	if s.PredicateType != signPredicate {
		return found, fmt.Errorf("it signs the statement %s about the image, not the image", clip(s.PredicateType))
	}
	for _, subject := range s.Subject {
		if v.about("sha256:"+subject.Digest["sha256"]) == nil {
			return found, nil
		}
	}
	return found, errors.New("it signs another image")
}

func (b *bundle) proof() (proof, error) {
	e := b.Envelope
	p := proof{message: preAuth(e.Type, e.Payload), signature: e.Signatures[0].Sig, envelope: e.Payload}
	var raw [][]byte
	if len(b.Material.Certificate.Raw) > 0 {
		raw = append(raw, b.Material.Certificate.Raw)
	}
	for _, c := range b.Material.Chain.Certificates {
		raw = append(raw, c.Raw)
	}
	if len(raw) == 0 {
		return p, nil
	}
	var err error
	if p.chain, err = derChain(raw); err != nil {
		return p, err
	}
	if len(b.Material.Entries) != 1 {
		return p, fmt.Errorf("it has %d entries of the log, and needs one", len(b.Material.Entries))
	}
	p.entry, err = b.Material.Entries[0].read()
	return p, err
}

// preAuth is DSSE's encoding of what is signed (PAE).
func preAuth(kind string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d ", len(kind), kind, len(body))
	b.Write(body)
	return b.Bytes()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func seconds(n int64) time.Time { return time.Unix(n, 0).UTC() }
