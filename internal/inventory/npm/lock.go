package npm

import (
	"bytes"
	"encoding/json"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for the lock files: package-lock.json and
// npm-shrinkwrap.json (versions 1 to 3), yarn.lock (classic and Berry),
// pnpm-lock.yaml (versions 5 to 9) and bun.lock. Entries from folders,
// workspaces and git have no version of the registry and are left out.
type Locks struct{}

// Names are those of the lock files.
func (Locks) Names() []string {
	return []string{"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"}
}

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool { return !lockfile.Noise(path) }

// Extract lists every locked package, those for development included.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	var out []event.Package
	switch path.Base(f.Path) {
	case "yarn.lock":
		out = yarn(data)
	case "pnpm-lock.yaml":
		out = pnpm(data)
	case "bun.lock":
		out, err = bun(data)
	default:
		out, err = npmLock(data)
	}
	return lockfile.Locked(out), err
}

// registered is a package with a version of the registry.
func registered(name, version string) event.Package {
	if version == "" || version[0] < '0' || version[0] > '9' || strings.ContainsAny(version, "/ :") {
		return event.Package{}
	}
	return purl.NPM(name, version)
}

type dependency struct {
	Name         string                `json:"name"`
	Version      string                `json:"version"`
	License      json.RawMessage       `json:"license"`
	Link         bool                  `json:"link"`
	Dependencies map[string]dependency `json:"dependencies"`
}

func npmLock(data []byte) ([]event.Package, error) {
	var lock struct {
		// An entry's own "dependencies" are ranges here, and a tree in version 1.
		Packages map[string]struct {
			Name    string          `json:"name"`
			Version string          `json:"version"`
			License json.RawMessage `json:"license"`
			Link    bool            `json:"link"`
		} `json:"packages"`
		Dependencies map[string]dependency `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, errJSON
	}
	var out []event.Package
	for place, d := range lock.Packages {
		i := strings.LastIndex(place, "node_modules/")
		if i < 0 || d.Link { // the project itself and its workspaces
			continue
		}
		name := d.Name // an alias is installed under another name
		if name == "" {
			name = place[i+len("node_modules/"):]
		}
		p := registered(name, d.Version)
		if p.Name != "" {
			p.Licenses = licenses(d.License)
		}
		out = purl.Append(out, p)
	}
	if len(lock.Packages) == 0 {
		out = tree(out, lock.Dependencies)
	}
	return out, nil
}

// tree walks version 1; encoding/json bounds its depth.
func tree(out []event.Package, dependencies map[string]dependency) []event.Package {
	for name, d := range dependencies {
		version := d.Version
		if alias, ok := strings.CutPrefix(version, "npm:"); ok {
			name, version = cutVersion(alias)
		}
		out = purl.Append(out, registered(name, version))
		out = tree(out, d.Dependencies)
	}
	return out
}

// cutVersion splits @scope/name@version.
func cutVersion(s string) (name, version string) {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// yarn reads both forms: the classic one writes `version "1.0"`, Berry writes
// `version: 1.0` and a resolution.
func yarn(data []byte) []event.Package {
	var out []event.Package
	name, version := "", ""
	local := false
	flush := func() {
		if !local && name != "__metadata" {
			out = purl.Append(out, registered(name, version))
		}
		name, version, local = "", "", false
	}
	for raw := range bytes.Lines(data) {
		line := strings.TrimRight(string(raw), "\r\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != ' ':
			flush()
			name = wantedName(line)
		case strings.HasPrefix(line, "  version"):
			version = strings.Trim(line[len("  version"):], `: "'`)
		case strings.HasPrefix(line, "  resolution:"):
			resolution := strings.Trim(line[len("  resolution:"):], ` "'`)
			local = strings.Contains(resolution, "@workspace:") || strings.Contains(resolution, "@link:") || strings.Contains(resolution, "@portal:")
			if i := strings.IndexByte(resolution[min(1, len(resolution)):], '@'); i >= 0 {
				name = resolution[:i+1]
			}
		}
	}
	flush()
	return out
}

// wantedName is the package of the first of `"a@^1", a@^2:`, its real name
// when a is an alias (a@npm:b@^1).
func wantedName(line string) string {
	first, _, _ := strings.Cut(strings.TrimSuffix(line, ":"), ",")
	first = strings.Trim(first, `" `)
	if alias, real, ok := strings.Cut(first, "@npm:"); ok {
		if name, version := cutVersion(real); version != "" {
			return name
		}
		return alias
	}
	if i := strings.IndexByte(first[min(1, len(first)):], '@'); i >= 0 {
		return first[:i+1]
	}
	return first
}

// pnpm: the keys under packages are /name/1.0_peers (version 5),
// /name@1.0(peers) (6) or name@1.0 (9).
func pnpm(data []byte) []event.Package {
	var out []event.Package
	inside, old := false, false
	for l := range lockfile.Outline(data) {
		if l.Indent == 0 {
			if l.Key == "lockfileVersion" {
				old = strings.HasPrefix(l.Value, "5")
			}
			inside = l.Key == "packages"
			continue
		}
		if inside && l.Indent == 2 && !l.Item {
			out = purl.Append(out, registered(pnpmKey(l.Key, old)))
		}
	}
	return out
}

func pnpmKey(key string, old bool) (name, version string) {
	key, _, _ = strings.Cut(key, "(")
	key = strings.TrimPrefix(key, "/")
	if !old {
		return cutVersion(key)
	}
	i := strings.LastIndexByte(key, '/')
	if peers := strings.IndexByte(key, '_'); peers >= 0 && strings.IndexByte(key[peers:], '/') >= 0 {
		i = strings.LastIndexByte(key[:peers], '/') // peers with a scope
	}
	if i < 0 {
		return "", ""
	}
	version, _, _ = strings.Cut(key[i+1:], "_")
	return key[:i], version
}

func bun(data []byte) ([]event.Package, error) {
	var lock struct {
		Packages map[string][]json.RawMessage `json:"packages"`
	}
	if err := json.Unmarshal(plain(data), &lock); err != nil {
		return nil, errJSON
	}
	var out []event.Package
	for _, entry := range lock.Packages {
		if len(entry) > 0 {
			if s, err := text(entry[0]); err == nil {
				out = purl.Append(out, registered(cutVersion(s)))
			}
		}
	}
	return out, nil
}

// plain takes comments and trailing commas out of JSON.
func plain(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			end := i + 1
			for end < len(data) && data[end] != '"' {
				if data[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(data)-1)
			out = append(out, data[i:end+1]...)
			i = end
		case c == '/' && i+1 < len(data) && data[i+1] == '/':
			for i < len(data) && data[i] != '\n' {
				i++
			}
		case c == '}' || c == ']':
			out = append(bytes.TrimSuffix(bytes.TrimRight(out, " \r\n\t"), []byte(",")), c)
		default:
			out = append(out, c)
		}
	}
	return out
}
