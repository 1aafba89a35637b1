package intel

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// signatureContext keeps a signature of a manifest from being one of anything
// else that the same key might ever sign.
const signatureContext = "breakwater intelligence manifest v1\n"

func sign(key ed25519.PrivateKey, manifest []byte) []byte {
	return signAs(key, signatureContext, manifest)
}

func verify(pub ed25519.PublicKey, manifest, signature []byte) bool {
	return verifyAs(pub, signatureContext, manifest, signature)
}

func signAs(key ed25519.PrivateKey, context string, text []byte) []byte {
	return ed25519.Sign(key, append([]byte(context), text...))
}

func verifyAs(pub ed25519.PublicKey, context string, text, signature []byte) bool {
	return ed25519.Verify(pub, append([]byte(context), text...), signature)
}

func keyPath(data string) string { return filepath.Join(data, "keys", "intel.key") }
func pinPath(data string) string { return filepath.Join(data, "keys", "intel.pub") }

// fingerprint names a key to people: the first 16 hex digits of its SHA-256.
func fingerprint(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// signingKey reads the private key, or makes it when this data folder has none
// and trusts no other key yet. The pin is written after the key, so that a kill
// between the two leaves a key whose pin the next call writes.
func signingKey(data string) (ed25519.PrivateKey, error) {
	key, err := readKey(keyPath(data))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(pinPath(data)); err == nil {
			return nil, fmt.Errorf("%s: this data folder trusts bundles of a key that it does not hold; put the key back, or remove %s to trust a new one", keyPath(data), pinPath(data))
		}
		key, err = makeKey(keyPath(data))
	}
	if err != nil {
		return nil, err
	}
	pub := key.Public().(ed25519.PublicKey)
	pin, err := readPin(data)
	if errors.Is(err, fs.ErrNotExist) {
		return key, writePin(pinPath(data), pub)
	}
	if err != nil {
		return nil, err
	}
	if !pub.Equal(pin) {
		return nil, fmt.Errorf("%s (%s) is not the key of %s (%s); put the right key back, or remove both to make new ones", keyPath(data), fingerprint(pub), pinPath(data), fingerprint(pin))
	}
	return key, nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an Ed25519 key", path)
	}
	return key, nil
}

// readPin reads the public key that bundles must be signed with.
func readPin(data string) (ed25519.PublicKey, error) { return readPublic(pinPath(data)) }

func readPublic(path string) (ed25519.PublicKey, error) {
	der, err := readPEM(path, "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	pub, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an Ed25519 key", path)
	}
	return pub, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: not a PEM file with a %s", path, kind)
	}
	return block.Bytes, nil
}

func makeKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return key, durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func writePin(path string, pub ed25519.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}
