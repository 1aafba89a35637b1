// Package hex finds Erlang and Elixir packages: installed ones by the
// application resource file that the runtime loads (ebin/NAME.app, Erlang's
// app(4)), locked ones in mix.lock and rebar.lock. The applications of
// Erlang/OTP and of Elixir itself are parts of those, not packages of Hex.
package hex

import (
	"bytes"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

const maxApp = 1 << 20 // bytes

// Driver is the inventory's driver for installed applications.
type Driver struct{}

// Names is the extension of resource files.
func (Driver) Names() []string { return []string{"*.app"} }

// Wants the resource file in an application's ebin.
func (Driver) Wants(file string, _ inventory.Info) bool {
	i := strings.LastIndexByte(file, '/')
	return i >= 0 && strings.HasSuffix(file[:i], "/ebin") && !platform(strings.TrimSuffix(file[i+1:], ".app"))
}

// platform: what comes with Erlang/OTP and Elixir.
func platform(app string) bool {
	switch app {
	case "asn1", "common_test", "compiler", "crypto", "debugger", "dialyzer", "diameter", "edoc", "eldap", "erl_docgen", "erl_interface",
		"erts", "et", "eunit", "ftp", "inets", "jinterface", "kernel", "megaco", "mnesia", "observer", "odbc", "os_mon", "parsetools",
		"public_key", "reltool", "runtime_tools", "sasl", "snmp", "ssh", "ssl", "stdlib", "syntax_tools", "tftp", "tools", "wx", "xmerl",
		"elixir", "eex", "ex_unit", "iex", "logger", "mix":
		return true
	}
	return false
}

var (
	application = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{\s*application\s*,\s*'?([a-zA-Z0-9_@]+)'?`) })
	version     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{\s*vsn\s*,\s*"([^"]{1,200})"`) })
)

// Extract reads the application's name and version.
func (Driver) Extract(f inventory.File) ([]event.Package, error) {
	data, err := inventory.ReadAll(f, maxApp)
	if err != nil {
		return nil, err
	}
	name, vsn := application().FindSubmatch(data), version().FindSubmatch(data)
	if name == nil || vsn == nil {
		return nil, nil
	}
	return purl.Append(nil, purl.Hex(string(name[1]), string(vsn[1]))), nil
}

// Locks is the inventory's driver for both lock files.
type Locks struct{}

// Names are those of the lock files.
func (Locks) Names() []string { return []string{"mix.lock", "rebar.lock"} }

// Wants a lock file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool {
	return !lockfile.Noise(path) && !strings.Contains(path, "deps/")
}

var (
	mixEntry   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{:hex,\s*:"?([a-zA-Z0-9_]+)"?,\s*"([^"]{1,200})"`) })
	rebarEntry = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\{pkg,\s*<<"([^"]{1,200})">>,\s*<<"([^"]{1,200})">>`)
	})
)

// Extract lists the packages of Hex; those of git have no version there.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	entry := mixEntry
	if path.Base(f.Path) == "rebar.lock" {
		entry = rebarEntry
	}
	var out []event.Package
	for line := range bytes.Lines(data) {
		// A line of mix.lock begins with one package and goes on with its requirements.
		if m := entry().FindSubmatch(line); m != nil {
			out = purl.Append(out, purl.Hex(string(m[1]), string(m[2])))
		}
	}
	return lockfile.Locked(out), nil
}
