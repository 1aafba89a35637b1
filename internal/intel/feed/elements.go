package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxElement bounds one element of a JSON document that is read element by
// element. The kernel's in the Debian tracker is the largest known, of some MB.
const maxElement = 64 << 20

// elements reads a JSON document of any size within bounded memory.
type elements struct {
	*json.Decoder
	guard *capped
}

func decode(r io.Reader) elements {
	guard := &capped{r, maxElement}
	return elements{json.NewDecoder(guard), guard}
}

// next decodes one element.
func (e elements) next(v any) error {
	e.guard.left = maxElement
	return e.Decode(v)
}

// openObject reads the beginning of a JSON object.
func (e elements) openObject(what string) error {
	token, err := e.Token()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if token != json.Delim('{') {
		return fmt.Errorf("%s: not a JSON object", what)
	}
	return nil
}

// enterList reads a JSON object up to the beginning of the named list.
func (e elements) enterList(name string) error {
	if err := e.openObject("the document"); err != nil {
		return err
	}
	for e.More() {
		key, err := e.Token()
		if err != nil {
			return err
		}
		if key != name {
			var other json.RawMessage
			if err := e.next(&other); err != nil {
				return err
			}
			continue
		}
		if token, err := e.Token(); err != nil || token != json.Delim('[') {
			return errors.Join(err, fmt.Errorf("%s is not a list", name))
		}
		return nil
	}
	return fmt.Errorf("there is no list %s", name)
}
