// Package install puts the gate into the configuration of a Docker engine that
// runs, and takes it out again.
//
// The engine reads its daemon.json again on SIGHUP and takes authorization
// plugins from it without a restart. A change is prepared first, so that it can
// be shown; applying it keeps the original, and puts it back when the engine
// does not ask the gate afterwards.
package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// Errors that callers tell apart.
var (
	// ErrInstalled: the engine's configuration names the gate already.
	ErrInstalled = errors.New("the gate is installed already")
	// ErrNotInstalled: it does not.
	ErrNotInstalled = errors.New("the gate is not installed")
	// ErrChanged: the file changed since the gate was installed.
	ErrChanged = errors.New("the file was changed since the gate was installed")
)

// Target is an engine and the gate for it.
type Target struct {
	Engine       string // path of the engine's socket
	Config       string // of daemon.json; "" = the one that the engine uses
	PluginSocket string // where the gate answers; its base name is the plugin's
	Data         string // data folder, where the original is kept
}

func (t Target) plugin() string {
	return strings.TrimSuffix(filepath.Base(t.PluginSocket), ".sock")
}

func (t Target) record() string { return filepath.Join(t.Data, "gate", "install.json") }

// record is what an installation remembers.
type record struct {
	Schema   int         `json:"schema"`
	Time     time.Time   `json:"time"`
	Engine   string      `json:"engine"`
	Config   string      `json:"config"`
	Plugin   string      `json:"plugin"`
	Existed  bool        `json:"existed"`
	Original []byte      `json:"original"`
	Mode     fs.FileMode `json:"mode"`
	// Installed is the SHA-256 of the file as the installation left it.
	Installed string `json:"installed"`
}

// Change is a change of an engine's configuration that was not made yet.
type Change struct {
	File   string
	Before []byte // nil: there is no file
	After  []byte // nil: the file is removed
	// Engine is false when no engine runs that would have to take the change.
	Engine bool

	target Target
	daemon *daemon
	record record
	adds   bool
}

// Diff shows the change in the unified format.
func (c *Change) Diff() string { return Diff(c.File, c.Before, c.After) }

// Install prepares the installation of a gate that answers already.
func Install(ctx context.Context, t Target) (*Change, error) {
	d, err := findDaemon(ctx, t.Engine)
	if err != nil {
		return nil, err
	}
	if t.Config != "" && !sameFile(t.Config, d.config) {
		return nil, fmt.Errorf("the engine at %s reads %s, not %s", t.Engine, d.config, t.Config)
	}
	for _, name := range []string{"authorization-plugin", "authorization-plugins"} {
		if value, ok := d.flag(name); ok {
			return nil, fmt.Errorf("the engine was started with --%s=%s: it refuses a configuration file that names plugins too; move that flag into %s (or add %q to it) and restart the engine", name, value, d.config, t.plugin())
		}
	}
	if err := answers(ctx, t); err != nil {
		return nil, err
	}
	before, mode, err := read(d.config)
	if err != nil {
		return nil, err
	}
	after, err := Add(before, t.plugin())
	if err != nil {
		return nil, fmt.Errorf("%s: %w; mend it first: the engine does not read it either", d.config, err)
	}
	if bytes.Equal(after, before) {
		return nil, fmt.Errorf("%w in %s", ErrInstalled, d.config)
	}
	sum := sha256.Sum256(after)
	return &Change{
		File: d.config, Before: before, After: after, Engine: true, target: t, daemon: d, adds: true,
		record: record{
			Schema: 1, Engine: t.Engine, Config: d.config, Plugin: t.plugin(),
			Existed: before != nil, Original: before, Mode: mode, Installed: hex.EncodeToString(sum[:]),
		},
	}, nil
}

// sameFile compares two names; files that are there by what they are.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// answers says whether the gate runs: an engine that is given a plugin that
// does not answer refuses every call.
func answers(ctx context.Context, t Target) error {
	raw, err := ask(ctx, t.PluginSocket, "POST", "/Plugin.Activate")
	if err != nil {
		return fmt.Errorf("the gate does not answer: %w (start it first: breakwater gate run)", err)
	}
	var manifest struct{ Implements []string }
	if err := json.Unmarshal(raw, &manifest); err != nil || len(manifest.Implements) != 1 || manifest.Implements[0] != "authz" {
		return fmt.Errorf("%s: what answers there is no gate", t.PluginSocket)
	}
	_, err = probed(ctx, t)
	return err
}

// probed asks the gate for the last probe that reached it through the engine.
func probed(ctx context.Context, t Target) (string, error) {
	raw, err := ask(ctx, t.PluginSocket, "POST", "/Breakwater.Status")
	if err != nil {
		return "", fmt.Errorf("what answers at %s is no gate of Breakwater: %w", t.PluginSocket, err)
	}
	var status struct{ Probe string }
	err = json.Unmarshal(raw, &status)
	return status.Probe, err
}

// Choice is what to do with a file that was changed since the installation.
type Choice string

// The choices.
const (
	Ask     Choice = ""        // fail with ErrChanged
	Keep    Choice = "keep"    // take only the gate's own part out
	Discard Choice = "discard" // put the original back, dropping the later changes
)

// Uninstall prepares to take the gate out: byte for byte what was there before,
// unless the file was changed since.
func Uninstall(ctx context.Context, t Target, choice Choice) (*Change, error) {
	c := &Change{target: t}
	known, err := c.load()
	if err != nil {
		return nil, err
	}
	c.daemon, err = findDaemon(ctx, t.Engine)
	c.Engine = err == nil
	switch {
	case known:
		c.File = c.record.Config
	case c.Engine:
		c.File = c.daemon.config
	default:
		return nil, fmt.Errorf("%w by this host's records, and %w", ErrNotInstalled, err)
	}
	var mode fs.FileMode
	if c.Before, mode, err = read(c.File); err != nil {
		return nil, err
	}
	if !known {
		c.record = record{Config: c.File, Plugin: t.plugin(), Mode: mode}
	}
	return c, c.undo(known, choice)
}

// undo decides what the file becomes.
func (c *Change) undo(known bool, choice Choice) error {
	sum := sha256.Sum256(c.Before)
	untouched := known && hex.EncodeToString(sum[:]) == c.record.Installed
	without, editErr := Remove(c.Before, c.record.Plugin)
	if editErr == nil && !known && bytes.Equal(without, c.Before) {
		return fmt.Errorf("%w in %s", ErrNotInstalled, c.File)
	}
	switch {
	case untouched || known && choice == Discard:
		if c.record.Existed {
			c.After = c.record.Original
			if c.After == nil {
				c.After = []byte{}
			}
		}
	case !known && choice != Keep:
		return fmt.Errorf("%s names the gate, but %s, the record of its installation, is not there: name the --data folder it was installed with, or take only the gate's own part out with --keep-changes",
			c.File, c.target.record())
	case choice != Keep:
		return fmt.Errorf("%s: %w; choose: --keep-changes takes only the gate's own part out, --discard-changes puts the file back as it was on %s",
			c.File, ErrChanged, c.record.Time.Format(time.DateTime))
	case editErr != nil:
		return fmt.Errorf("%s: %w; mend it, or put the original back with --discard-changes", c.File, editErr)
	default:
		c.After = without
	}
	return nil
}

func (c *Change) load() (known bool, err error) {
	data, err := os.ReadFile(c.target.record())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, &c.record); err != nil {
		return false, fmt.Errorf("%s: %w", c.target.record(), err)
	}
	return true, nil
}

// Apply makes the change and waits until the engine has taken it. When the
// engine does not, everything is put back and the error says why.
func (c *Change) Apply(ctx context.Context) error {
	if now, _, err := read(c.File); err != nil || !bytes.Equal(now, c.Before) {
		return errors.Join(fmt.Errorf("%s changed while you were asked; nothing was done, try again", c.File), err)
	}
	if c.adds {
		c.record.Time = time.Now().UTC()
		if err := c.save(); err != nil {
			return fmt.Errorf("keep the original of %s: %w", c.File, err)
		}
	}
	if err := write(c.File, c.After, c.record.Mode); err != nil {
		if c.adds {
			os.Remove(c.target.record())
		}
		return fmt.Errorf("change %s: %w", c.File, err)
	}
	if err := c.take(ctx); err != nil {
		return c.rollBack(ctx, err)
	}
	if c.adds {
		return nil
	}
	if err := os.Remove(c.target.record()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// take makes the engine use the file, and proves that it does.
func (c *Change) take(ctx context.Context) error {
	if !c.Engine {
		return nil
	}
	if err := c.daemon.reload(); err != nil {
		return err
	}
	return c.daemon.until(ctx, c.gate(), c.adds)
}

// gate is the target whose plugin the record names.
func (c *Change) gate() Target {
	t := c.target
	if t.plugin() != c.record.Plugin { // uninstalled with other flags than installed
		t.PluginSocket = filepath.Join(filepath.Dir(t.PluginSocket), c.record.Plugin+".sock")
	}
	return t
}

func (c *Change) rollBack(ctx context.Context, cause error) error {
	if !c.adds {
		return fmt.Errorf("%s was changed, but the engine did not take it: %w; restart the engine", c.File, cause)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err := write(c.File, c.Before, c.record.Mode)
	if err == nil {
		err = c.daemon.reload()
	}
	if err == nil {
		err = c.daemon.until(ctx, c.gate(), false)
	}
	if err != nil {
		return fmt.Errorf("the engine did not take the gate: %w; and putting %s back failed: %w (its original is in %s)", cause, c.File, err, c.target.record())
	}
	os.Remove(c.target.record())
	return fmt.Errorf("the engine did not take the gate, and %s was put back: %w", c.File, cause)
}

func (c *Change) save() error {
	data, err := json.MarshalIndent(c.record, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.target.record()), 0o700); err != nil {
		return err
	}
	return write(c.target.record(), data, 0o600)
}

// read gives a file's bytes and mode; nil and the usual mode when there is none.
func read(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0o644, nil
	}
	if err != nil {
		return nil, 0, err
	}
	data, err := os.ReadFile(path)
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, info.Mode().Perm(), err
}

// write replaces a file at once (nil removes it), keeping its owner, and is
// through to the disk when it returns.
func write(path string, data []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link to the file stays one
	}
	if data == nil {
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Replace(path, data, func(f *os.File) error {
		if info, err := os.Stat(path); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
					return err
				}
			}
		}
		return f.Chmod(mode)
	})
}

// Installed says whether the engine's configuration file names the gate, and
// whether the engine uses it now.
func Installed(ctx context.Context, t Target) (inFile, inUse bool, file string, err error) {
	d, err := findDaemon(ctx, t.Engine)
	if err != nil {
		return false, false, "", err
	}
	data, _, err := read(d.config)
	if err != nil {
		return false, false, d.config, err
	}
	without, err := Remove(data, t.plugin())
	inFile = err == nil && !bytes.Equal(without, data)
	inUse, err = d.asks(ctx, t)
	return inFile, inUse, d.config, err
}
