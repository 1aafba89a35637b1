package intel

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Handout is a verified bundle that is given away part by part. It goes on
// giving the content that it was opened with when a newer one is published.
// Safe for concurrent use.
type Handout struct {
	ID        string // of these manifest and content, hex
	Manifest  []byte // exactly as signed
	Signature []byte
	db        *os.File
	size      int64
}

// OpenHandout verifies the bundle in use below a data folder and opens it.
// Errors are those of Open.
func OpenHandout(data string) (*Handout, error) {
	dir, err := currentFolder(data)
	if err != nil {
		return nil, err
	}
	m, err := verifyFolder(data, dir)
	if err != nil {
		return nil, err
	}
	h := &Handout{size: m.Size}
	if h.Manifest, err = readSmall(filepath.Join(dir, manifestName)); err != nil {
		return nil, err
	}
	if h.Signature, err = readSmall(filepath.Join(dir, signatureName)); err != nil {
		return nil, err
	}
	h.ID = idOf(h.Manifest)
	h.db, err = os.Open(filepath.Join(dir, dbName))
	return h, err
}

// Part is what the bundle's database holds from offset on, at most most bytes;
// empty at its end.
func (h *Handout) Part(offset int64, most int) ([]byte, error) {
	if offset < 0 || offset > h.size {
		return nil, fmt.Errorf("intelligence bundle: no byte %d: it has %d", offset, h.size)
	}
	part := make([]byte, min(int64(most), h.size-offset))
	_, err := h.db.ReadAt(part, offset)
	return part, err
}

// Close lets the bundle go.
func (h *Handout) Close() error { return h.db.Close() }

// idOf tells bundles apart that have the same content but not the same sources'
// times.
func idOf(manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return hex.EncodeToString(sum[:])
}

// Current is the ID of the bundle in use below a data folder, unverified; ""
// when there is none.
func Current(data string) (id string, err error) {
	text, err := readSmall(filepath.Join(folderOf(data).current(), manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return idOf(text), err
}

// TrustedKey is the public key that bundles of a data folder are signed with.
// Where there is none yet, both halves are made, as Build would.
func TrustedKey(data string) (ed25519.PublicKey, error) {
	pin, err := readPin(data)
	if !errors.Is(err, fs.ErrNotExist) {
		return pin, err
	}
	unlock, err := folderOf(data).lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, err := signingKey(data)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// Own says whether a data folder makes its own bundles: it holds a signing key.
func Own(data string) bool {
	_, err := os.Lstat(keyPath(data))
	return err == nil
}

// Trust makes pub the key that bundles of this data folder must be signed with.
// A folder that makes its own bundles keeps its own key.
func Trust(data string, pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("intelligence key: %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	if old, err := readPin(data); Own(data) || err == nil && old.Equal(pub) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(pinPath(data)), 0o700); err != nil {
		return err
	}
	return writePin(pinPath(data), pub)
}

// removeUnfinished removes what killed builds and transfers left, but for one.
func (f folder) removeUnfinished(but string) error {
	left, err := filepath.Glob(filepath.Join(string(f), buildPrefix+"*"))
	for _, path := range left {
		if filepath.Base(path) != but {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}
