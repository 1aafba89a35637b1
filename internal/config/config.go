// Package config reads the one configuration file: what an administrator
// decides and may change while Breakwater runs. What cannot change without a
// restart (folders, addresses, engines) is a flag or an environment variable,
// not a field here.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/notify/transport/syslog"
)

// Config is the file. Its zero value is the default of every field; Default
// fills in what zero does not say.
type Config struct {
	// Intelligence says where advisories come from and how often.
	Intelligence Intelligence
	// Retention bounds what the server keeps besides incidents.
	Retention Retention
	// Outputs are the receivers of incidents.
	Outputs []Output
}

// Intelligence is the feed of advisories.
type Intelligence struct {
	// Source replaces the public sources by a mirror's URL.
	Source string
	// Every is how often to update; 0 never does so by itself.
	Every time.Duration
}

// Retention bounds stored events; incidents are kept.
type Retention struct {
	Events    time.Duration
	MaxEvents int64
}

// Output is one receiver of incidents. Name keeps its place in the stream of
// incidents across restarts and changes of address.
type Output struct {
	Name   string
	Syslog *syslog.Config
	// Rises: only incidents that begin a story or make it worse, not every step.
	Rises bool
}

// Default is the configuration of a host without a file.
func Default() Config {
	return Config{Retention: Retention{Events: 30 * 24 * time.Hour, MaxEvents: 1_000_000}}
}

// Load reads a file. One that does not exist is the default; any other trouble
// is an error, with line and column where the file is wrong.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads and validates a configuration. The error is a document.Errors.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	docs, err := document.Parse(name, data)
	if err != nil {
		return Config{}, err
	}
	if len(docs) == 0 {
		return c, nil
	}
	r := document.NewReader(name)
	root := r.Value(docs[0])
	if len(docs) > 1 {
		r.Value(docs[1]).Fail("a configuration is one document")
	}
	ok := root.Map(document.Fields{
		"apiVersion":   func(v document.Value) { v.Word("breakwater/v1") },
		"kind":         func(v document.Value) { v.Word("Configuration") },
		"stage":        nil,
		"intelligence": func(v document.Value) { c.Intelligence = intelligence(v) },
		"retention":    func(v document.Value) { c.Retention = retention(v, c.Retention) },
		"outputs":      func(v document.Value) { c.Outputs = outputs(v) },
	})
	if ok {
		root.Require("apiVersion", "kind")
	}
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func intelligence(v document.Value) Intelligence {
	var i Intelligence
	v.Map(document.Fields{
		"source": func(v document.Value) { i.Source = source(v) },
		"every":  func(v document.Value) { i.Every = duration(v, time.Hour) },
	})
	return i
}

func source(v document.Value) string {
	s := v.String()
	if s != "" && !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "file://") {
		v.Fail("%q is no URL: want https://, http:// or file://", s)
	}
	return s
}

func retention(v document.Value, r Retention) Retention {
	v.Map(document.Fields{
		"events":    func(v document.Value) { r.Events = duration(v, time.Hour) },
		"maxEvents": func(v document.Value) { r.MaxEvents = int64(v.Int(1000, 1_000_000_000)) },
	})
	return r
}

func outputs(v document.Value) []Output {
	var all []Output
	seen := map[string]bool{}
	v.List(16, func(v document.Value) {
		o := output(v)
		if o.Name != "" && seen[o.Name] {
			v.Fail("an output named %q stands above already: each keeps its own place in the stream", o.Name)
		}
		seen[o.Name] = true
		all = append(all, o)
	})
	return all
}

func output(v document.Value) Output {
	var o Output
	ok := v.Map(document.Fields{
		"name":   func(v document.Value) { o.Name = v.String() },
		"each":   func(v document.Value) { o.Rises = v.Word("incident", "story") == "story" },
		"syslog": func(v document.Value) { o.Syslog = syslogOutput(v) },
	})
	if ok {
		v.Require("name", "syslog")
	}
	return o
}

func syslogOutput(v document.Value) *syslog.Config {
	var c syslog.Config
	ok := v.Map(document.Fields{
		"address":     func(v document.Value) { c.Address = v.String() },
		"ca":          func(v document.Value) { c.CA = v.String() },
		"serverName":  func(v document.Value) { c.ServerName = v.String() },
		"certificate": func(v document.Value) { c.Certificate = v.String() },
		"key":         func(v document.Value) { c.Key = v.String() },
		"facility":    func(v document.Value) { c.Facility = v.String() },
		"maxMessage":  func(v document.Value) { c.MaxMessage = v.Int(2048, 1<<20) },
	})
	if !ok {
		return &c
	}
	if err := c.Validate(); err != nil {
		v.Fail("%v", err)
	}
	return &c
}

// duration reads a time span in Go's form (90m, 720h) or in days (30d).
func duration(v document.Value, least time.Duration) time.Duration {
	text := v.String()
	d, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		d, err = time.ParseDuration(days + "h")
		d *= 24
	}
	switch {
	case text == "":
	case err != nil:
		v.Fail("%q is no time span: want 90m, 12h or 30d", text)
	case d < least:
		v.Fail("%s is too short: at least %s", text, least)
	}
	return d
}
