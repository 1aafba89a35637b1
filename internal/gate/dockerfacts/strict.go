package dockerfacts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Bounds of a request's JSON. Docker itself shows plugins at most 1 MiB.
const (
	maxDepth = 64
	maxKeys  = 100_000
)

// freeForm are the keys (folded) whose objects the engine reads as maps, where
// two keys that differ in case are two entries. Everywhere else the engine's
// decoder, Go's encoding/json, takes keys in any case, the last one winning.
func freeForm(key string) bool {
	switch key {
	case "labels", "exposedports", "volumes", "tmpfs", "sysctls", "storageopt", "portbindings",
		"annotations", "options", "driveropts", "endpointsconfig", "config":
		return true
	}
	return false
}

// Strict says whether a request's body has one meaning only: one JSON object,
// nothing after it, no key twice, not even in another case. A body that two
// decoders could read differently is an attempt to show the gate one thing and
// the engine another; the error says which key.
func Strict(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	w := walker{d: d}
	first, err := d.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if first != json.Delim('{') {
		return fmt.Errorf("not a JSON object: it begins with %v", first)
	}
	if err := w.object("", 1); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

type walker struct {
	d    *json.Decoder
	keys int
}

// object reads an object whose opening brace was read already.
func (w *walker) object(parent string, depth int) error {
	seen := map[string]bool{}
	exact := freeForm(parent)
	for w.d.More() {
		token, err := w.d.Token()
		if err != nil {
			return fmt.Errorf("not JSON: %w", err)
		}
		key, ok := token.(string)
		if !ok {
			return fmt.Errorf("not JSON: %v where a key should be", token)
		}
		name := fold(key)
		unique := name
		if exact {
			unique = key
		}
		if seen[unique] {
			return fmt.Errorf("key %q stands twice in one object (in any case): the engine and the gate could read it differently", key)
		}
		seen[unique] = true
		if w.keys++; w.keys > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		if err := w.value(name, depth); err != nil {
			return err
		}
	}
	return w.closing()
}

func (w *walker) value(name string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	token, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	switch token {
	case json.Delim('{'):
		return w.object(name, depth+1)
	case json.Delim('['):
		for w.d.More() {
			if err := w.value("", depth+1); err != nil {
				return err
			}
		}
		return w.closing()
	}
	return nil
}

func (w *walker) closing() error {
	if _, err := w.d.Token(); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return nil
}

// fold gives the same text for all keys that encoding/json takes as equal:
// Unicode simple case folding, by which K (Kelvin) is k and ſ is s.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return unicode.ToLower(least)
	}, key)
}
