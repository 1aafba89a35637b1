package osrelease

import (
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Lifetime knows when releases of distributions reach their end of life.
type Lifetime map[string]map[string]time.Time // id → version → the last day, UTC

// ReadLifetime reads content/distributions.yaml, which describes its format.
func ReadLifetime(files fs.FS, name string) (Lifetime, error) {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID       string            `yaml:"id"`
		Source   string            `yaml:"source"`
		Releases map[string]string `yaml:"releases"`
	}
	if err := yaml.UnmarshalWithOptions(data, &list, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l := Lifetime{}
	for _, d := range list {
		if d.ID == "" || l[d.ID] != nil || !strings.HasPrefix(d.Source, "https://") {
			return nil, fmt.Errorf("%s: %q: an id that stands once, and the publisher's page are needed", name, d.ID)
		}
		l[d.ID] = map[string]time.Time{}
		for version, day := range d.Releases {
			t, err := time.Parse(time.DateOnly, day)
			if err != nil {
				return nil, fmt.Errorf("%s: %s %s: %w", name, d.ID, version, err)
			}
			l[d.ID][version] = t
		}
	}
	return l, nil
}

// End of a release, by its ID and VERSION_ID; zero when it is not known.
func (l Lifetime) End(id, version string) time.Time {
	releases := l[id]
	for version != "" {
		if t, ok := releases[version]; ok {
			return t
		}
		version = version[:max(strings.LastIndexByte(version, '.'), 0)]
	}
	return time.Time{}
}
