// Package luarocks finds Lua modules that LuaRocks installed: each lies in its
// tree as lib/luarocks/rocks-5.1/NAME/VERSION/NAME-VERSION.rockspec (LuaRocks'
// "Rocks repositories" and "Rockspec format"). A rockspec is a program in Lua;
// name and version are those of the folders, which LuaRocks itself goes by.
package luarocks

import (
	"bytes"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxSpec = 1 << 20 // bytes

// Driver is the inventory's driver for installed rocks.
type Driver struct{}

// Names is the extension of specifications.
func (Driver) Names() []string { return []string{"*.rockspec"} }

// Wants the specifications of a tree of installed rocks.
func (Driver) Wants(file string, _ inventory.Info) bool {
	_, _, ok := rock(file)
	return ok
}

// rock gives the name and version of the folders that a specification lies in.
func rock(file string) (name, version string, ok bool) {
	dir, base := path.Split(file)
	dir = strings.TrimSuffix(dir, "/")
	i := strings.LastIndexByte(dir, '/')
	if i < 0 {
		return "", "", false
	}
	dir, version = dir[:i], dir[i+1:]
	if i = strings.LastIndexByte(dir, '/'); i < 0 {
		return "", "", false
	}
	dir, name = dir[:i], dir[i+1:]
	rest, found := strings.CutPrefix(base, name)
	rest, dash := strings.CutPrefix(rest, "-")
	tree := strings.LastIndex(dir, "luarocks/rocks")
	return name, version, found && dash && strings.TrimSuffix(rest, ".rockspec") == version && tree >= 0 && !strings.Contains(dir[tree+len("luarocks/"):], "/")
}

// Extract lists the one rock, with its licence where that stands as a text.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxSpec)
	if err != nil {
		return nil, err
	}
	name, version, _ := rock(f.Path)
	p := purl.LuaRocks(name, version)
	if l := license(data); p.Name != "" && purl.Valid(l) {
		p.Licenses = []string{l}
	}
	return purl.Append(nil, p), nil
}

// license is the first text that is given to the field "license".
func license(data []byte) string {
	for raw := range bytes.Lines(data) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(raw)), "=")
		if !ok || strings.TrimSpace(key) != "license" {
			continue
		}
		value = strings.TrimSpace(value)
		if value == "" || value[0] != '"' && value[0] != '\'' {
			return ""
		}
		text, _, ok := strings.Cut(value[1:], value[:1])
		if !ok {
			return ""
		}
		return text
	}
	return ""
}
