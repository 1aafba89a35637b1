package python

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for lock files: requirements*.txt (lines
// pinned with == only), Pipfile.lock, poetry.lock, uv.lock, pdm.lock and
// pylock.toml.
type Locks struct{}

// Names are those of the lock files.
func (Locks) Names() []string {
	return []string{"Pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock", "pylock.toml", "*.txt"}
}

// Wants a lock file that is this image's own.
func (Locks) Wants(file string, _ inventory.Info) bool {
	if strings.HasSuffix(file, ".txt") {
		base := file[strings.LastIndexByte(file, '/')+1:]
		if !strings.HasPrefix(base, "requirements") && !strings.HasSuffix(base, "requirements.txt") {
			return false
		}
	}
	return !lockfile.Noise(file)
}

// Extract lists every locked distribution.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	switch base := path.Base(f.Path); {
	case base == "Pipfile.lock":
		out, err = pipfile(data)
	case strings.HasSuffix(base, ".txt"):
		out = Requirements(data)
	default:
		out = tables(data)
	}
	return lockfile.Locked(out), err
}

// Requirements lists the pinned lines of a requirements file:
// name[extra]==1.0 ; marker --hash=….
func Requirements(data []byte) []event.Package {
	var out []event.Package
	for raw := range bytes.Lines(data) {
		out = purl.Append(out, Pinned(string(raw)))
	}
	return out
}

// Pinned reads one requirement; it is the zero Package unless pinned with ==.
func Pinned(line string) event.Package {
	line, _, _ = strings.Cut(line, "#")
	line, _, _ = strings.Cut(line, ";")
	line, _, _ = strings.Cut(line, " --hash")
	name, version, ok := strings.Cut(line, "==")
	if !ok {
		return event.Package{}
	}
	version = strings.TrimSpace(strings.TrimRight(strings.TrimPrefix(version, "="), "\\ \r\n"))
	name, _, _ = strings.Cut(name, "[")
	name = strings.TrimSpace(name)
	if strings.ContainsAny(version, "*, <>=!/") || strings.ContainsAny(name, "<>=!~ /:@-") && !distribution(name) {
		return event.Package{}
	}
	return purl.PyPI(name, version)
}

// distribution says whether name has only the letters of a distribution's name.
func distribution(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_':
		case c == '-' && i > 0:
		default:
			return false
		}
	}
	return true
}

func pipfile(data []byte) ([]event.Package, error) {
	var lock map[string]json.RawMessage
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	var out []event.Package
	for section, raw := range lock {
		var entries map[string]struct {
			Version string `json:"version"`
		}
		if section == "_meta" || json.Unmarshal(raw, &entries) != nil {
			continue
		}
		for name, e := range entries {
			if version, ok := strings.CutPrefix(e.Version, "=="); ok {
				out = purl.Append(out, purl.PyPI(name, version))
			}
		}
	}
	return out, nil
}

// tables reads the TOML forms: [[package]], or [[packages]] in pylock.toml.
func tables(data []byte) []event.Package {
	var out []event.Package
	for t := range lockfile.Tables(data) {
		if t.Name != "package" && t.Name != "packages" || local(t.Values["source"]) || t.Values["path"] != "" || t.Values["directory"] != "" {
			continue
		}
		out = purl.Append(out, purl.PyPI(t.Values["name"], t.Values["version"]))
	}
	return out
}

// local: uv lists the project itself and its workspace with such a source.
func local(source string) bool {
	for _, kind := range []string{"editable", "virtual", "directory", "path"} {
		if lockfile.Inline(source, kind) != "" {
			return true
		}
	}
	return false
}
