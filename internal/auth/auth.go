// Package auth says who is asking: local accounts with argon2id passwords,
// browser sessions, API tokens, roles, and the login limit. Every login,
// logout and failure is in the audit log.
//
// Values that prove who somebody is (cookies, tokens) are 256 random bits;
// only their SHA-256 is stored, so a stolen database opens no session, and the
// lookup by hash leaks nothing by its timing.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// Role is what an account may do.
type Role string

// The roles.
const (
	Admin  Role = "admin"  // everything
	Viewer Role = "viewer" // read everything, change nothing
	CI     Role = "ci"     // have scans judged, nothing else; of tokens only
)

// Identity is who makes a request.
type Identity struct {
	Name string
	Role Role
}

// MayWrite says whether the identity may change things.
func (i Identity) MayWrite() bool { return i.Role == Admin }

// MayRead says whether the identity may see what the server knows.
func (i Identity) MayRead() bool { return i.Role == Admin || i.Role == Viewer }

// MayScan says whether the identity may have scans judged.
func (i Identity) MayScan() bool { return i.Role == Admin || i.Role == CI }

// Cookie is the session cookie's name. The prefix makes browsers refuse it
// unless it is Secure, for the whole site and set by this host itself.
const Cookie = "__Host-breakwater"

// The life of a session.
const (
	SessionIdle  = 2 * time.Hour  // after the last request
	SessionLimit = 12 * time.Hour // after the login
	touchEvery   = time.Minute    // how exactly the last request is known
	clockSlack   = 5 * time.Minute
)

// Errors of this package; test with errors.Is.
var (
	// ErrDenied is a wrong name or password; it never says which.
	ErrDenied = errors.New("name or password is wrong")
	// ErrAnonymous: the request proves nobody.
	ErrAnonymous = errors.New("log in first")
)

// LimitedError refuses an attempt after too many failures.
type LimitedError struct{ Wait time.Duration }

func (e *LimitedError) Error() string {
	return fmt.Sprintf("too many failed attempts: wait %d minutes", int(e.Wait/time.Minute)+1)
}

// Accounts is what of the store is needed about people and programs.
type Accounts interface {
	User(ctx context.Context, name string) (store.User, error)
	Users(ctx context.Context) ([]store.User, error)
	PutUser(ctx context.Context, name, hash, role string, by store.Actor) error
	Token(ctx context.Context, hash []byte) (store.Token, error)
	PutToken(ctx context.Context, name string, hash []byte, role string, expires time.Time, by store.Actor) error
	Audit(ctx context.Context, by store.Actor, action, object, detail string) error
}

// Sessions is what of the store is needed about logins.
type Sessions interface {
	AddSession(ctx context.Context, hash []byte, by store.Actor) error
	Session(ctx context.Context, hash []byte) (store.Session, error)
	TouchSession(ctx context.Context, hash []byte) error
	EndSession(ctx context.Context, hash []byte, by store.Actor) error
	PruneSessions(ctx context.Context, created, seen time.Time) error
}

// Auth is the door. It is safe for concurrent use.
type Auth struct {
	accounts Accounts
	sessions Sessions
	hasher   *Hasher
	limit    *limiter
	now      func() time.Time
	decoy    string // verified for unknown names, so that they cost the same
}

// New returns the door to the accounts; now nil means time.Now.
func New(ctx context.Context, accounts Accounts, sessions Sessions, now func() time.Time) (*Auth, error) {
	if now == nil {
		now = time.Now
	}
	a := &Auth{accounts: accounts, sessions: sessions, hasher: NewHasher(), limit: newLimiter(now), now: now}
	var err error
	a.decoy, err = a.hasher.Hash(ctx, NewPassword())
	return a, err
}

// maxName bounds an account's name, in bytes.
const maxName = 64

// PutUser adds an account or gives it a new password and role; its sessions end.
func (a *Auth) PutUser(ctx context.Context, name, password string, role Role, by store.Actor) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("user name %q: use 1 to %d bytes without spaces", name, maxName)
	}
	if role != Admin && role != Viewer {
		return fmt.Errorf("role %q of user %q: use %s or %s", role, name, Admin, Viewer)
	}
	hash, err := a.hasher.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	return a.accounts.PutUser(ctx, name, hash, string(role), by)
}

// FirstUser makes the account "admin" when there is no account at all, and
// returns its password, which is kept nowhere; otherwise it returns "".
func (a *Auth) FirstUser(ctx context.Context) (password string, err error) {
	users, err := a.accounts.Users(ctx)
	if err != nil || len(users) > 0 {
		return "", err
	}
	password = NewPassword()
	return password, a.PutUser(ctx, "admin", password, Admin, store.Actor{Name: "breakwater"})
}

// Login checks a name and password and returns the value of a new session's
// cookie. The error is ErrDenied, a *LimitedError, or the store's.
func (a *Auth) Login(ctx context.Context, name, password string, by store.Actor) (value string, err error) {
	if len(name) > maxName {
		name = name[:maxName]
	}
	name = strings.ToValidUTF8(name, "?")
	by.Name = name
	if wait, ok := a.limit.reserve(name, by.Address); !ok {
		return "", errors.Join(&LimitedError{wait}, a.accounts.Audit(ctx, by, "session.limited", name, ""))
	}
	right, err := a.verify(ctx, name, password)
	if err != nil {
		return "", err
	}
	if !right {
		return "", errors.Join(ErrDenied, a.accounts.Audit(ctx, by, "session.denied", name, ""))
	}
	a.limit.clear(name, by.Address)
	value, hash := NewSecret()
	return value, a.sessions.AddSession(ctx, hash, by)
}

func (a *Auth) verify(ctx context.Context, name, password string) (bool, error) {
	user, err := a.accounts.User(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		_, err := a.hasher.Verify(ctx, a.decoy, password)
		return false, err
	}
	if err != nil {
		return false, err
	}
	return a.hasher.Verify(ctx, user.Hash, password)
}

// Logout ends the session that the request carries.
func (a *Auth) Logout(r *http.Request, by store.Actor) error {
	c, err := r.Cookie(Cookie)
	if err != nil {
		return nil // none to end
	}
	return a.sessions.EndSession(r.Context(), HashSecret(c.Value), by)
}

// Identify says who makes the request: by "Authorization: Bearer", else by the
// session cookie. Nobody is ErrAnonymous.
func (a *Auth) Identify(r *http.Request) (Identity, error) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		t, err := a.accounts.Token(r.Context(), HashSecret(token))
		return Identity{Name: "token " + t.Name, Role: Role(t.Role)}, anonymous(err)
	}
	c, err := r.Cookie(Cookie)
	if err != nil {
		return Identity{}, ErrAnonymous
	}
	return a.session(r.Context(), HashSecret(c.Value))
}

func (a *Auth) session(ctx context.Context, hash []byte) (Identity, error) {
	s, err := a.sessions.Session(ctx, hash)
	if err != nil {
		return Identity{}, anonymous(err)
	}
	now := a.now()
	idle, age := now.Sub(s.Seen), now.Sub(s.Created)
	// A session from the future means that the clock went back: its age is
	// not known, so it ends.
	if idle > SessionIdle || age > SessionLimit || age < -clockSlack {
		return Identity{}, ErrAnonymous
	}
	if idle > touchEvery {
		// Not being able to note the use (a full disk) must not lock people out.
		_ = a.sessions.TouchSession(ctx, hash)
	}
	return Identity{Name: s.User, Role: Role(s.Role)}, nil
}

// Prune forgets sessions that have ended.
func (a *Auth) Prune(ctx context.Context) error {
	now := a.now()
	return a.sessions.PruneSessions(ctx, now.Add(-SessionLimit), now.Add(-SessionIdle))
}

// NewToken makes an API token, replacing the one of that name, and returns its
// value, which is kept nowhere.
func (a *Auth) NewToken(ctx context.Context, name string, role Role, life time.Duration, by store.Actor) (string, error) {
	value, hash := NewSecret()
	return value, a.accounts.PutToken(ctx, name, hash, string(role), a.now().Add(life), by)
}

func anonymous(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrAnonymous
	}
	return err
}

// NewSecret returns 256 random bits for a person or program to hold, and the
// hash under which to store them.
func NewSecret() (value string, hash []byte) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails, by crypto/rand's contract
	value = base64.RawURLEncoding.EncodeToString(raw)
	return value, HashSecret(value)
}

// HashSecret is the hash under which a secret is stored.
func HashSecret(value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}

// SetCookie gives the browser its session.
func SetCookie(w http.ResponseWriter, value string) {
	http.SetCookie(w, &http.Cookie{Name: Cookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(SessionLimit / time.Second)})
}

// DropCookie takes it away.
func DropCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: Cookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
}

// Address is the client's, without its port. Headers that a proxy would set
// are not believed.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
