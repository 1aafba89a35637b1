package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// IsRegistry says whether a word is a registry's address, HOST or HOST:PORT.
func IsRegistry(address string) bool {
	_, err := name.NewRegistry(address, name.StrictValidation)
	return err == nil
}

// RegistryOf is the registry that a reference names, as RegistryOptions.Host; ""
// when it is none.
func RegistryOf(reference string) string {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return ""
	}
	return ref.Context().RegistryStr()
}

// Repositories lists what a registry's catalog names, at most limit. Many
// registries of the public show none.
func (r *Registry) Repositories(ctx context.Context, host string, limit int) (repos []string, err error) {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return nil, fmt.Errorf("is no registry: %w", err)
	}
	p, err := r.puller(registry.RegistryStr())
	if err != nil {
		return nil, err
	}
	c, err := p.Catalogger(ctx, registry)
	for err == nil && c.HasNext() && len(repos) < limit {
		var page *remote.Catalogs
		if page, err = c.Next(ctx); err == nil {
			repos = append(repos, page.Repos...)
		}
	}
	if err != nil {
		return nil, explainRegistry(registry.RegistryStr(), err)
	}
	return repos[:min(len(repos), limit)], nil
}

// limitedError is a registry that was asked too often.
type limitedError struct{ text string }

func (e *limitedError) Error() string { return e.text }

// Limited says whether err means that a registry was asked too often.
func Limited(err error) bool {
	var e *limitedError
	return errors.As(err, &e)
}
