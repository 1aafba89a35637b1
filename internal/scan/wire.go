package scan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/sbom"
)

// What the parent asks the child to read.
const (
	readArchive = "archive" // the file in descriptor 3, at any offset
	readStream  = "stream"  // the same from a pipe
	readLayers  = "layers"  // layers one by one, as orders on the socket in descriptor 3
	readSBOM    = "sbom"    // the document in descriptor 3
)

// request is the first thing that the parent writes to the child's standard
// input: one line of JSON.
type request struct {
	Read     string
	Want     string
	Platform string
	Limits   image.Limits
	Content  int64 // bytes of one file held in memory
	Size     int64 // of an archive or document
	Layers   int   // how many orders there will be, for the progress
	Verify   bool
	Apart    bool // see image.Options
	Key      inventory.Key
	Look     Look
	Engine   string // name of the malware scanner
	Scanners []int  // descriptors of connections to it
	Rules    int    // descriptor of compiled YARA rules, 0 for none
	// Ask: once it knows the image's layers, the child sends Image and waits for
	// an answer: which of them need not be read.
	Ask bool
}

// answerKnown is the parent's second line, when it was asked.
type answerKnown struct{ Known []bool }

// message is what the child says, one frame each: progress, an image, layers,
// then one Done or one Error.
type message struct {
	Progress *image.Progress `json:"progress,omitempty"`
	Image    *image.Image    `json:"image,omitempty"`
	Layer    *layerResult    `json:"layer,omitempty"`
	SBOM     *sbom.Document  `json:"sbom,omitempty"`
	Done     bool            `json:"done,omitempty"`
	Gaps     []string        `json:"gaps,omitempty"`
	Error    string          `json:"error,omitempty"`
	Missing  []string        `json:"missing,omitempty"` // parts of the confinement
}

// layerResult is all that is kept of one layer.
type layerResult struct {
	Index  int                      `json:"index"`
	DiffID string                   `json:"diffId"` // computed, else empty
	Size   int64                    `json:"size"`
	Files  int                      `json:"files"`
	Found  map[string]event.Content `json:"found,omitempty"` // per kind
	Error  string                   `json:"error,omitempty"`

	inventory []byte // inventory.Layer.Keep; travels beside the JSON
}

// order tells the child to read one layer from the descriptor that comes with
// it.
type order struct {
	Index int
	// Kind: a regular file, a stream, or a socket on which a folder's entries come.
	Kind string
	Size int64 // of a file
}

const (
	orderFile   = "file"
	orderStream = "stream"
	orderFolder = "folder"
	maxOrder    = 1000 // bytes
)

const (
	maxAnswer = 512 << 20 // bytes of a child's whole answer; 10,000 packages are 4 MB
	maxError  = 2000      // bytes of an error text from a child
)

var errAnswerTooLong = errors.New("is too long")

// answers writes messages from several goroutines.
type answers struct {
	mu sync.Mutex
	w  io.Writer
}

// send writes a frame: two lengths (32 bits, little endian), the JSON, and the
// inventory's bytes, which so need no escaping and no second parsing.
func (a *answers) send(m message) {
	var extra []byte
	if m.Layer != nil {
		extra = m.Layer.inventory
	}
	text, err := json.Marshal(m)
	if err != nil {
		text, extra = []byte(fmt.Sprintf(`{"error":%q}`, err.Error())), nil
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(text)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(extra)))
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, part := range [][]byte{head, text, extra} {
		if _, err := a.w.Write(part); err != nil {
			return // a parent that went away kills this process anyway
		}
	}
}

// receive reads one frame; limited counts what may still come.
func receive(limited *io.LimitedReader) (message, error) {
	var head [8]byte
	if _, err := io.ReadFull(limited, head[:]); err != nil {
		return message{}, err
	}
	text, extra := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if int64(text)+int64(extra) > limited.N {
		return message{}, errAnswerTooLong
	}
	data, err := readN(limited, int64(text))
	if err != nil {
		return message{}, err
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return message{}, err
	}
	if extra > 0 {
		if data, err = readN(limited, int64(extra)); err != nil {
			return message{}, err
		}
		if m.Layer != nil {
			m.Layer.inventory = data
		}
	}
	return m, nil
}

// readN takes memory for what comes, not for what was announced.
func readN(r io.Reader, n int64) ([]byte, error) {
	if n <= 4<<20 {
		data := make([]byte, n)
		_, err := io.ReadFull(r, data)
		return data, err
	}
	data, err := io.ReadAll(io.LimitReader(r, n))
	if err == nil && int64(len(data)) < n {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}
