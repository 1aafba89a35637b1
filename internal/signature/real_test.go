package signature_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/signature"
)

// recorded is what a registry held of one image; testdata/real/README.md says
// how it was made.
type recorded struct {
	Image     string            `json:"image"`
	Manifests map[string]string `json:"manifests"`
	Referrers []string          `json:"referrers"`
	Blobs     map[string][]byte `json:"blobs"`
}

func replay(t *testing.T, name string) (*fake, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "real", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	f := &fake{manifests: map[string][]byte{}, blobs: r.Blobs, attached: r.Referrers}
	for reference, m := range r.Manifests {
		f.manifests[reference] = []byte(m)
	}
	return f, r.Image
}

func realTrust(t *testing.T) *signature.Trust {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "real", "trust.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := signature.ParseTrust("trust.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// realNow lies after all of them were made.
var realNow = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// TestRealSignatures: what cosign and the Notary Project's library made, by the
// signers that made it, and nobody else.
func TestRealSignatures(t *testing.T) {
	tr := realTrust(t)
	for name, want := range map[string][]string{
		"cosign3-tag": {"release"}, "cosign3-bundle": {"release"}, "cosign3-referrers": {"release"},
		"cosign3-annotated":   {"release", "release"},
		"cosign2-tag-ed25519": {"ed25519"}, "cosign2-bundle-ed25519": {"ed25519"},
		"cosign2-tag-p384": {"p384"}, "cosign2-bundle-p384": {"p384"},
		"cosign3-tag-ed25519": {"ed25519"}, "cosign3-bundle-ed25519": {"ed25519"},
		"cosign3-tag-p384": {"p384"}, "cosign3-bundle-p384": {"p384"},
		"cosign3-tag-p521": {"p521"}, "cosign3-bundle-p521": {"p521"},
		"cosign3-tag-rsa4096": {"rsa4096"}, "cosign3-bundle-rsa4096": {"rsa4096"},
		"notation":            {"partner", "partner", "partner", "partner"},
		"cosign3-attestation": {""}, "cosign3-stranger": {""},
	} {
		t.Run(name, func(t *testing.T) {
			source, digest := replay(t, name)
			found, gaps, err := signature.Verify(t.Context(), tr, source, digest, realNow)
			if err != nil || len(gaps) > 0 {
				t.Fatalf("gaps %q, %v", gaps, err)
			}
			var got []string
			for _, s := range found {
				got = append(got, s.Signer)
				if s.Verified != (s.Signer != "") || !s.Verified && s.Reason == "" {
					t.Errorf("%+v", s)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("signers %q, want %q: %+v", got, want, found)
			}
		})
	}
}

// TestRealSignaturesOnAnotherImage: none of them holds for anything else.
func TestRealSignaturesOnAnotherImage(t *testing.T) {
	tr := realTrust(t)
	names, err := filepath.Glob(filepath.Join("testdata", "real", "*.json"))
	if err != nil || len(names) < 10 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		source, digest := replay(t, strings.TrimSuffix(filepath.Base(name), ".json"))
		if m := source.manifests[strings.Replace(digest, ":", "-", 1)+".sig"]; m != nil {
			source.manifests[strings.Replace(other, ":", "-", 1)+".sig"] = m
		}
		found, _, err := signature.Verify(t.Context(), tr, source, other, realNow)
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		for _, s := range found {
			if s.Verified {
				t.Errorf("%s holds for another image: %+v", name, s)
			}
		}
	}
}

// realCOSE is the COSE envelope among them, and the image that it signs.
func realCOSE(t testing.TB) (blob []byte, digest string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "real", "notation.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, b := range r.Blobs {
		if b[0] == 0xd2 {
			return b, r.Image
		}
	}
	t.Fatal("no COSE envelope")
	return nil, ""
}

// TestCOSE: one bit of what is signed, or of the signature, makes it nobody's.
func TestCOSE(t *testing.T) {
	tr := realTrust(t)
	blob, digest := realCOSE(t)
	try := func(changed []byte) event.Signature {
		t.Helper()
		var f fake
		f.attach(t, false, "application/cose", changed, nil)
		found, gaps, err := signature.Verify(t.Context(), tr, &f, digest, realNow)
		if err != nil || len(found) != 1 || len(gaps) > 0 {
			t.Fatalf("%+v, gaps %q, %v", found, gaps, err)
		}
		return found[0]
	}
	if s := try(blob); !s.Verified || s.Signer != "partner" || s.Identity != "CN=release ec,O=Breakwater test,ST=Berlin,C=DE" || s.Signed.Year() != 2026 {
		t.Errorf("%+v", s)
	}
	// The header that is not signed, with the certificates: from label 33 on.
	from, to := bytes.Index(blob, []byte{0x18, 33}), bytes.Index(blob, []byte(`{"targetArtifact"`))-2
	if from < 100 || to < from {
		t.Fatalf("no header from %d to %d", from, to)
	}
	for i := range blob {
		if i >= from && i < to {
			continue
		}
		changed := bytes.Clone(blob)
		changed[i] ^= 1
		if s := try(changed); s.Verified {
			t.Errorf("byte %d of %d changed, and still: %+v", i, len(blob), s)
		}
	}
	for _, text := range map[string]string{
		"nothing": "", "no tag": "\x84\x40\xa0\x40\x40", "another tag": "\xd1\x84\x40\xa0\x40\x40", "three parts": "\xd2\x83\x40\xa0\x40",
		"no certificate": "\xd2\x84\x40\xa0\x40\x40", "no length": "\xd2\x9f\xff", "deep": strings.Repeat("\x81", 100) + "\x00", "a long list": "\xd2\x9a\xff\xff\xff\xff",
		"a field twice": "\xd2\x84\x40\xa2\x01\x00\x01\x00\x40\x40", "a float": "\xfb\x00\x00\x00\x00\x00\x00\x00\x00", "more behind it": string(blob) + "\x00",
	} {
		refused(t, try([]byte(text)), "COSE envelope is not readable: ")
	}
}
