package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	maxDetections = 1_000
	maxDetection  = 256 << 10
)

// ParseDetections reads a tar archive, compressed or not, of detections in the
// form of content/detections: one YAML file each, which says "kind: Detection".
// Whoever loads them checks their content (package detect); here only what
// could not be one at all is refused.
func ParseDetections(ctx context.Context, r io.Reader, each func(name string, text []byte) error, skip func(name string, err error)) error {
	seen := map[string]bool{}
	isYAML := func(name string) bool { return strings.HasSuffix(name, ".yaml") }
	err := EachFile(ctx, r, isYAML, func(full string, text []byte) error {
		name := path.Base(full)
		switch {
		case len(text) > maxDetection:
			skip(clip(name, maxID), fmt.Errorf("larger than %d bytes", maxDetection))
			return nil
		case seen[name] || len(name) > maxID || !printable(name):
			skip(clip(name, maxID), errors.New("the name is not usable or comes twice"))
			return nil
		case !isDetection(text):
			skip(name, errors.New("not a detection"))
			return nil
		}
		if seen[name] = true; len(seen) > maxDetections {
			return fmt.Errorf("more than %d detections", maxDetections)
		}
		return each(name, bytes.Clone(text))
	}, skip)
	if err == nil && len(seen) == 0 {
		return errors.New("there is not one detection")
	}
	return err
}

// isDetection looks for the two lines that every detection has.
func isDetection(text []byte) bool {
	kind, id := false, false
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		kind = kind || string(line) == "kind: Detection"
		id = id || bytes.HasPrefix(line, []byte("id: "))
	}
	return kind && id
}
