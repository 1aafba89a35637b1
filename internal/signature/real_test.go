package signature_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
		"cosign3-tag-ed25519": {"ed25519"}, "cosign3-bundle-ed25519": {"ed25519"},
		"cosign3-tag-p384": {"p384"}, "cosign3-bundle-p384": {"p384"},
		"cosign3-tag-p521": {"p521"}, "cosign3-bundle-p521": {"p521"},
		"cosign3-tag-rsa4096": {"rsa4096"}, "cosign3-bundle-rsa4096": {"rsa4096"},
		"notation":            {"partner", "partner", "", "partner"},
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
