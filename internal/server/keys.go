package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// lockFolder keeps a second server out of a folder for as long as the file is open.
func lockFolder(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("server folder: %w", err)
	}
	if err := flock(f); err != nil {
		owner, _ := os.ReadFile(name)
		_ = f.Close()
		return nil, fmt.Errorf("server folder %q is in use by process %s: stop it, or give this one another folder with --data", dir, strings.TrimSpace(string(owner)))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server folder: %w", err), f.Close())
	}
	return f, nil
}

// flock takes the lock. A server that was killed while it started a child keeps it
// until that child has executed: some milliseconds, for which this waits.
func flock(f *os.File) (err error) {
	for range 20 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || !ownerGone(f.Name()) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// ownerGone: the process that a lock file names does not live.
func ownerGone(name string) bool {
	owner, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(owner)))
	return err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// signingKey reads the Ed25519 key that signs policy bundles, or makes it: the
// seed in hex, mode 0600.
func signingKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return key, writeSecret(path, []byte(hex.EncodeToString(key.Seed())+"\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("policy key: %w", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("policy key %q is damaged: put its backup there; a new one needs every agent enrolled again", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// keyID names a public key: hex of the first 8 bytes of its SHA-256.
func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// writeSecret writes a file that only its owner reads, whole or not at all.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}
