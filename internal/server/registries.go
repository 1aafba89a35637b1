package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// The bounds of a registry's settings, and what they are when nobody says.
const (
	maxPatterns      = 1000
	maxRegistryName  = 64
	leastEvery       = time.Minute
	defaultEvery     = 6 * time.Hour
	defaultBudget    = 60
	maxBudget        = 100_000
	defaultMostTags  = 20
	maxMostTags      = 1000
	maxRepositories  = 10_000
	maxTagsOfOneRepo = 10_000
)

// credentials are what the database holds encrypted.
type credentials struct {
	Password string `json:"password,omitempty"`
	Token    string `json:"token,omitempty"`  // a bearer's
	Notify   string `json:"notify,omitempty"` // that proves who notifies
}

// purpose binds credentials to where they may be sent.
func purpose(r store.Registry) string { return "registry\x00" + r.Name + "\x00" + r.Address }

// badRegistry is a registry whose settings cannot be right.
type badRegistry struct{ error }

func wrongRegistry(format string, args ...any) error { return badRegistry{fmt.Errorf(format, args...)} }

// PutRegistry implements web.Registries: it adds a registry or changes it.
// Empty credentials keep those that it has, as long as it stays at its address.
// notify is the token for its notifications when one was made.
func (s *Server) PutRegistry(ctx context.Context, in web.RegistryInput, by store.Actor) (notify string, err error) {
	r := in.Registry
	if err := fillRegistry(&r); err != nil {
		return "", err
	}
	var have credentials
	before, err := s.store.Registry(ctx, r.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return "", err
	case before.Address == r.Address && before.Username == r.Username:
		if have, err = s.credentials(before); err != nil && in.Password == "" && in.Token == "" {
			return "", badRegistry{err}
		}
	}
	if in.Password != "" || in.Token != "" {
		have.Password, have.Token = in.Password, in.Token
	}
	if r.Username != "" && have.Password == "" {
		return "", wrongRegistry("registry %q: give the password of %q: passwords are not kept when the address or the user changes", r.Name, r.Username)
	}
	if have.Notify == "" {
		have.Notify, _ = auth.NewSecret()
		notify = have.Notify
	}
	text, err := json.Marshal(have)
	if err != nil {
		return "", err
	}
	r.Secret = s.sealer.seal(text, purpose(r))
	if err := s.store.PutRegistry(ctx, r, by); err != nil {
		return "", err
	}
	s.crawler.forget(r.Name)
	s.crawler.wakeUp()
	return notify, nil
}

// DeleteRegistry implements web.Registries.
func (s *Server) DeleteRegistry(ctx context.Context, name string, by store.Actor) error {
	err := s.store.DeleteRegistry(ctx, name, by)
	s.crawler.forget(name)
	return err
}

// CrawlRegistry implements web.Registries: it is listed now.
func (s *Server) CrawlRegistry(ctx context.Context, name string, by store.Actor) error {
	if _, err := s.store.Registry(ctx, name); err != nil {
		return err
	}
	if err := s.store.ListRegistryAt(ctx, name, time.Time{}); err != nil {
		return err
	}
	s.crawler.wakeUp()
	return s.store.Audit(ctx, by, "registry.crawl", name, "")
}

func (s *Server) credentials(r store.Registry) (c credentials, err error) {
	text, err := s.sealer.open(r.Secret, purpose(r))
	if err != nil {
		return c, fmt.Errorf("registry %q: %w", r.Name, err)
	}
	return c, json.Unmarshal(text, &c)
}

// client asks a registry with its own credentials and authority.
func (s *Server) client(r store.Registry) (*image.Registry, error) {
	c, err := s.credentials(r)
	if err != nil {
		return nil, err
	}
	return image.NewRegistry(image.RegistryOptions{Host: r.Address, Username: r.Username, Password: c.Password, Token: c.Token, CA: []byte(r.CA)}), nil
}

// fillRegistry checks settings and fills in what nobody said.
func fillRegistry(r *store.Registry) error {
	if r.Name == "" || len(r.Name) > maxRegistryName || strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return wrongRegistry("name %.80q: use 1 to %d small letters, digits, hyphens and dots", r.Name, maxRegistryName)
	}
	if !image.IsRegistry(r.Address) {
		return wrongRegistry("address %.200q of registry %q: use HOST or HOST:PORT", r.Address, r.Name)
	}
	if len(r.Repositories) == 0 {
		return wrongRegistry("registry %q: name its repositories; * is all of its catalog", r.Name)
	}
	if len(r.Repositories)+len(r.Tags) > maxPatterns {
		return wrongRegistry("registry %q: more than %d patterns", r.Name, maxPatterns)
	}
	for _, p := range append(append([]string(nil), r.Repositories...), r.Tags...) {
		if _, err := path.Match(strings.TrimPrefix(p, "!"), ""); err != nil || p == "" || len(p) > 255 {
			return wrongRegistry("registry %q: pattern %.80q: use *, ? and a leading !", r.Name, p)
		}
	}
	if r.CA != "" && !strings.Contains(r.CA, "-----BEGIN CERTIFICATE-----") {
		return wrongRegistry("registry %q: its CA is no certificate in PEM", r.Name)
	}
	fill := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	fill(&r.Budget, defaultBudget)
	fill(&r.MostTags, defaultMostTags)
	if r.Every == 0 {
		r.Every = defaultEvery
	}
	if r.Every < leastEvery || r.Budget < 1 || r.Budget > maxBudget || r.MostTags < 1 || r.MostTags > maxMostTags {
		return wrongRegistry("registry %q: it is listed at most every %s, reads 1 to %d images within an hour, and 1 to %d tags of a repository", r.Name, leastEvery, maxBudget, maxMostTags)
	}
	return nil
}

// wanted says whether a word passes patterns: one without ! must match, when
// there is one, and none with !. A * passes slashes too.
func wanted(patterns []string, word string) bool {
	any, yes := false, false
	for _, p := range patterns {
		if out, isOut := strings.CutPrefix(p, "!"); isOut {
			if matches(out, word) {
				return false
			}
			continue
		}
		any = true
		yes = yes || matches(p, word)
	}
	return yes || !any
}

// matches is path.Match for which a slash is a character as any other.
func matches(pattern, word string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(word))
	return ok && err == nil
}

func isPattern(p string) bool { return strings.HasPrefix(p, "!") || strings.ContainsAny(p, "*?[") }
