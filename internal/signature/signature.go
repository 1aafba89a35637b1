// Package signature finds out who signed an image, offline: signatures of cosign
// (with a key, or keyless with the certificates and the log's key that are named)
// and of notation (JWS and COSE envelopes, X.509). It verifies what a registry holds
// against a [Trust] that people wrote; nothing is fetched but from that registry.
//
// Formats: cosign's SIGNATURE_SPEC and Sigstore's bundle 0.3 (the signed entry
// timestamp of Rekor 1), the DSSE envelope 1.0, and the Notary Project's
// signature specification 1.1 with its JWS and COSE envelopes.
package signature

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Source is where an image and what is attached to it lie: one repository of a
// registry.
type Source interface {
	// Manifest fetches a manifest by tag or digest; nil when there is none.
	Manifest(ctx context.Context, reference string) ([]byte, error)
	Blob(ctx context.Context, digest string, size int64) ([]byte, error)
	// Referrers lists the digests of the manifests that are attached to one.
	Referrers(ctx context.Context, digest string) ([]string, error)
}

// The bounds of what one image's signatures may cost.
const (
	maxSignatures = 100
	maxBlob       = 1 << 20
)

// Verify looks at every signature on the manifest or index of that digest.
// Signatures that are wrong, or by nobody who is trusted, are listed with the
// reason; gaps say what could not be looked at. The error means that the
// source could not be asked.
func Verify(ctx context.Context, trust *Trust, source Source, digest string, now time.Time) (found []event.Signature, gaps []string, err error) {
	v := verifier{trust: trust, source: source, digest: digest, now: now}
	if err := v.attached(ctx); err != nil {
		return nil, nil, err
	}
	if err := v.referrers(ctx); err != nil {
		return nil, nil, err
	}
	return v.found, v.gaps, nil
}

type verifier struct {
	trust  *Trust
	source Source
	digest string
	now    time.Time
	found  []event.Signature
	gaps   []string
}

// manifest is the part of an OCI manifest that signatures use.
type manifest struct {
	MediaType    string `json:"mediaType"`
	ArtifactType string `json:"artifactType"`
	Config       struct {
		MediaType string `json:"mediaType"`
	} `json:"config"`
	Subject struct {
		Digest string `json:"digest"`
	} `json:"subject"`
	Layers []layer `json:"layers"`
}

type layer struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

const simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"

// attached looks at cosign's signatures under the tag sha256-….sig.
func (v *verifier) attached(ctx context.Context) error {
	data, err := v.source.Manifest(ctx, strings.Replace(v.digest, ":", "-", 1)+".sig")
	if err != nil || data == nil {
		return err
	}
	return v.manifest(ctx, data)
}

func (v *verifier) referrers(ctx context.Context) error {
	digests, err := v.source.Referrers(ctx, v.digest)
	if err != nil {
		return err
	}
	for _, digest := range digests[:min(len(digests), maxSignatures)] {
		data, err := v.source.Manifest(ctx, digest)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if err := v.manifest(ctx, data); err != nil {
			return err
		}
	}
	return nil
}

// manifest looks at the layers of one attached manifest. Whether it says that
// it is about the image does not count: each signature must say so.
func (v *verifier) manifest(ctx context.Context, data []byte) error {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		v.gaps = append(v.gaps, "an attached manifest is not JSON: "+err.Error())
		return nil
	}
	for _, l := range m.Layers {
		judge := v.judgeOf(l.MediaType)
		if judge == nil {
			continue
		}
		if len(v.found) == maxSignatures {
			v.gaps = append(v.gaps, fmt.Sprintf("more than %d signatures: the others were not looked at", maxSignatures))
			return nil
		}
		if l.Size > maxBlob {
			v.gaps = append(v.gaps, fmt.Sprintf("a signature of %d bytes was not read", l.Size))
			continue
		}
		blob, err := v.source.Blob(ctx, l.Digest, l.Size)
		if err != nil {
			return err
		}
		v.add(judge(l, blob))
	}
	return nil
}

// judgeOf is the reader of a media type; nil for what is no signature.
func (v *verifier) judgeOf(mediaType string) func(layer, []byte) (event.Signature, error) {
	switch {
	case mediaType == simpleSigning:
		return v.simple
	case strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle") && strings.HasSuffix(mediaType, "json"):
		return v.bundle
	case mediaType == "application/jose+json":
		return v.notation
	case mediaType == "application/cose":
		return v.cose
	}
	return nil
}

// The kinds of signatures.
const (
	kindCosign   = "cosign"
	kindNotation = "notation"
)

func (v *verifier) add(s event.Signature, err error) {
	s.Verified = err == nil
	if err != nil {
		s.Signer, s.Reason = "", err.Error()
	}
	v.found = append(v.found, s)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var errNobody = errors.New("it is by nobody who is trusted")
