package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// localTokenLife is how long the token of this host's own command line holds;
// it is made anew at the first start after half of it.
const localTokenLife = 90 * 24 * time.Hour

// LocalToken makes sure that an administrator's API token for this host's own
// command line lies in a file that only its owner reads, and returns the file.
func (s *Server) LocalToken(ctx context.Context) (path string, err error) {
	path = filepath.Join(s.o.Dir, "keys", "api.token")
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("local token: %w", err)
	}
	t, err := s.store.Token(ctx, auth.HashSecret(strings.TrimSpace(string(text))))
	if err == nil && t.Expires.After(s.o.Now().Add(localTokenLife/2)) {
		return path, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	value, err := s.auth.NewToken(ctx, "local", auth.Admin, localTokenLife, store.Actor{Name: "breakwater"})
	if err != nil {
		return "", err
	}
	return path, writeSecret(path, []byte(value+"\n"))
}
