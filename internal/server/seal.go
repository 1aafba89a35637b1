package server

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// sealer encrypts what the database must not hold in the clear (AES-256-GCM),
// with a key that lies beside it. Safe for concurrent use.
type sealer struct{ aead cipher.AEAD }

// openSealer reads the key, or makes it: 32 bytes in hex, mode 0600.
func openSealer(path string) (*sealer, error) {
	text, err := os.ReadFile(path)
	var key []byte
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails, by crypto/rand's contract
		if err := writeSecret(path, []byte(hex.EncodeToString(key)+"\n")); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("key of credentials: %w", err)
	default:
		if key, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil || len(key) != 32 {
			return nil, fmt.Errorf("key of credentials %q is damaged: put its backup there, or remove it and give every registry's credentials anew", path)
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// seal binds the text to what it is for: it opens for nothing else.
func (s *sealer) seal(text []byte, purpose string) []byte {
	return s.aead.Seal(nil, nil, text, []byte(purpose))
}

func (s *sealer) open(sealed []byte, purpose string) ([]byte, error) {
	text, err := s.aead.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, errors.New("the credentials cannot be decrypted with keys/credentials.key: give them anew")
	}
	return text, nil
}
