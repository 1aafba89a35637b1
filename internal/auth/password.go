package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The parameters of argon2id for new hashes: the OWASP Password Storage Cheat
// Sheet's first recommendation (19 MiB, 2 passes, 1 lane). Stored hashes carry
// their own, so these may change.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	argonLanes  = 1
	saltBytes   = 16
	keyBytes    = 32
)

// Bounds of what a stored hash may ask for, so that a changed database cannot
// exhaust the server.
const (
	maxArgonMemory = 256 * 1024 // KiB
	maxArgonTime   = 16
)

// The bounds of a password, in bytes.
const (
	MinPassword = 12
	MaxPassword = 256
)

// hashers bounds how many hashes are computed at once: each takes 19 MiB and
// a core.
const hashers = 2

// Hasher computes password hashes, a bounded number at a time. It is safe for
// concurrent use.
type Hasher struct{ slots chan struct{} }

// NewHasher returns a Hasher.
func NewHasher() *Hasher { return &Hasher{slots: make(chan struct{}, hashers)} }

// Hash returns the password's argon2id hash with a fresh salt in PHC string
// form: $argon2id$v=19$m=…,t=…,p=…$salt$key, unpadded base64.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if len(password) < MinPassword || len(password) > MaxPassword {
		return "", fmt.Errorf("password has %d bytes: use %d to %d", len(password), MinPassword, MaxPassword)
	}
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	p := phc{memory: argonMemory, time: argonTime, lanes: argonLanes, salt: salt}
	key, err := h.key(ctx, p, password, keyBytes)
	if err != nil {
		return "", err
	}
	p.key = key
	return p.String(), nil
}

// Verify says whether the password belongs to the hash. It takes the same time
// for every wrong password of a hash.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (bool, error) {
	p, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	if len(password) > MaxPassword {
		password = password[:MaxPassword] + "\x00" // wrong, at the same cost
	}
	key, err := h.key(ctx, p, password, uint32(len(p.key)))
	return err == nil && subtle.ConstantTimeCompare(key, p.key) == 1, err
}

func (h *Hasher) key(ctx context.Context, p phc, password string, n uint32) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.lanes, n), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// phc is a hash with its parameters.
type phc struct {
	memory, time uint32
	lanes        uint8
	salt, key    []byte
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.lanes, b64(p.salt), b64(p.key))
}

var errHash = errors.New("stored password hash is damaged: set the password again")

func parsePHC(s string) (p phc, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.lanes); err != nil {
		return phc{}, errHash
	}
	if p.memory < 8 || p.memory > maxArgonMemory || p.time < 1 || p.time > maxArgonTime || p.lanes < 1 {
		return phc{}, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(key) < 16 || len(key) > 128 {
		return phc{}, errHash
	}
	p.salt, p.key = salt, key
	return p, nil
}

// passwordAlphabet leaves out what looks alike: 32 letters, 5 bits each.
const passwordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// NewPassword makes a password of 125 random bits, in five groups of five.
func NewPassword() string {
	raw := make([]byte, 25)
	_, _ = rand.Read(raw) // never fails, by crypto/rand's contract
	var b strings.Builder
	for i, x := range raw {
		if i > 0 && i%5 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordAlphabet[x&31])
	}
	return b.String()
}
