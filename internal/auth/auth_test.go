package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// clock is a clock that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func door(t *testing.T) (*auth.Auth, *store.Store, *clock) {
	t.Helper()
	c := &clock{at: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	a, err := auth.New(t.Context(), s, s, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a, s, c
}

func withCookie(value string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: auth.Cookie, Value: value})
	return r
}

var ann = store.Actor{Name: "ann", Address: "192.0.2.1", Request: "r"}

func TestFirstUserLogsInOnce(t *testing.T) {
	a, s, _ := door(t)
	password, err := a.FirstUser(t.Context())
	if err != nil || len(password) != 29 {
		t.Fatalf("%q %v", password, err)
	}
	if again, err := a.FirstUser(t.Context()); again != "" || err != nil {
		t.Errorf("a second first user: %q %v", again, err)
	}
	value, err := a.Login(t.Context(), "admin", password, ann)
	if err != nil {
		t.Fatal(err)
	}
	who, err := a.Identify(withCookie(value))
	if err != nil || who.Name != "admin" || !who.MayWrite() {
		t.Errorf("%+v %v", who, err)
	}
	if err := a.Logout(withCookie(value), ann); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Identify(withCookie(value)); !errors.Is(err, auth.ErrAnonymous) {
		t.Errorf("after logout: %v", err)
	}
	log, err := s.AuditLog(t.Context(), "", 10)
	if err != nil || len(log) != 3 || log[0].Action != "session.logout" || log[1].Action != "session.login" {
		t.Errorf("%+v %v", log, err)
	}
	for _, e := range log {
		if strings.Contains(fmt.Sprint(e), password) || strings.Contains(fmt.Sprint(e), value) {
			t.Errorf("a secret is in the audit log: %+v", e)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	for name, moves := range map[string][]time.Duration{
		"idle":            {auth.SessionIdle + time.Second},
		"absolute":        {time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour + time.Second},
		"clock went back": {-24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, c := door(t)
			password, err := a.FirstUser(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			value, err := a.Login(t.Context(), "admin", password, ann)
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range moves {
				if _, err := a.Identify(withCookie(value)); err != nil {
					t.Fatalf("ended before move %d: %v", i, err)
				}
				c.at = c.at.Add(d)
			}
			if _, err := a.Identify(withCookie(value)); !errors.Is(err, auth.ErrAnonymous) {
				t.Errorf("still lives: %v", err)
			}
		})
	}
}

func TestLoginIsLimitedByAccountAndAddress(t *testing.T) {
	a, _, c := door(t)
	ctx := t.Context()
	const password = "correct horse battery"
	if err := a.PutUser(ctx, "ann", password, auth.Viewer, ann); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := a.Login(ctx, "ann", "wrong", ann); !errors.Is(err, auth.ErrDenied) {
			t.Fatal(err)
		}
	}
	var limited *auth.LimitedError
	if _, err := a.Login(ctx, "ann", password, ann); !errors.As(err, &limited) {
		t.Errorf("the sixth attempt: %v", err)
	}
	if _, err := a.Login(ctx, "ann", password, store.Actor{Address: "192.0.2.2"}); err != nil {
		t.Errorf("another address is locked out: %v", err)
	}
	c.at = c.at.Add(16 * time.Minute)
	if _, err := a.Login(ctx, "ann", password, ann); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestUnknownNamesAreDeniedAlike(t *testing.T) {
	a, _, _ := door(t)
	_, err := a.Login(t.Context(), "nobody\x00"+strings.Repeat("x", 1000), "whatever", ann)
	if !errors.Is(err, auth.ErrDenied) {
		t.Errorf("got %v", err)
	}
}

func TestTokens(t *testing.T) {
	a, _, c := door(t)
	value, err := a.NewToken(t.Context(), "ci", auth.Viewer, time.Hour, ann)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+value)
	if who, err := a.Identify(r); err != nil || who.Name != "token ci" || who.MayWrite() {
		t.Errorf("%+v %v", who, err)
	}
	c.at = c.at.Add(2 * time.Hour)
	if _, err := a.Identify(r); !errors.Is(err, auth.ErrAnonymous) {
		t.Errorf("expired: %v", err)
	}
	if _, err := a.Identify(httptest.NewRequest("GET", "/", nil)); !errors.Is(err, auth.ErrAnonymous) {
		t.Errorf("nothing: %v", err)
	}
}

func TestBadAccountsAreRefused(t *testing.T) {
	a, _, _ := door(t)
	for _, c := range []struct {
		name, password string
		role           auth.Role
		want           string
	}{
		{"", "long enough password", auth.Admin, "user name"}, {"a b", "long enough password", auth.Admin, "user name"},
		{"ann", "short", auth.Admin, "5 bytes"}, {"ann", strings.Repeat("x", 300), auth.Admin, "300 bytes"}, {"ann", "long enough password", "king", "role"},
	} {
		if err := a.PutUser(t.Context(), c.name, c.password, c.role, ann); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestHashes(t *testing.T) {
	h := auth.NewHasher()
	one, err := h.Hash(t.Context(), "correct horse battery")
	if err != nil || !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%q %v", one, err)
	}
	for password, want := range map[string]bool{"correct horse battery": true, "correct horse batterx": false, "": false, strings.Repeat("x", 100_000): false} {
		if got, err := h.Verify(t.Context(), one, password); err != nil || got != want {
			t.Errorf("%.30q: %v %v", password, got, err)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // a cancelled caller may still win a free slot
		if _, err := h.Hash(done, "correct horse battery"); err != nil {
			return
		}
	}
	t.Error("a cancelled caller was never turned away")
}

func FuzzVerifyTakesAnyStoredHash(f *testing.F) {
	for _, s := range []string{"", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=4294967295,t=4294967295,p=255$$", "$argon2i$v=19$m=8,t=1,p=1$a$b", "$$$$$"} {
		f.Add(s)
	}
	h := auth.NewHasher()
	f.Fuzz(func(t *testing.T, hash string) {
		if strings.Contains(hash, "m=") && len(hash) > 120 {
			t.Skip()
		}
		if ok, err := h.Verify(t.Context(), hash, "password"); ok && err != nil {
			t.Error("both right and wrong")
		}
	})
}
