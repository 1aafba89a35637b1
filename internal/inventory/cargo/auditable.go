package cargo

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"errors"
	"io"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Section is the name of the ELF section that holds the audit data.
const Section = ".dep-v0"

const (
	maxPacked = 8 << 20 // bytes; real ones stay below 100 kB
	maxAudit  = 64 << 20
)

var errAudit = errors.New("its list of Rust crates cannot be read")

// Audit reads audit data: the crates that are in the program. Crates that only
// took part in building it are left out.
func Audit(r io.Reader) ([]event.Package, error) {
	z, err := zlib.NewReader(io.LimitReader(r, maxPacked))
	if err != nil {
		return nil, errAudit
	}
	data, err := io.ReadAll(io.LimitReader(z, maxAudit))
	if err != nil {
		return nil, errAudit
	}
	var audit struct {
		Packages []struct{ Name, Version, Kind string }
	}
	if err := json.Unmarshal(data, &audit); err != nil {
		return nil, errAudit
	}
	var out []event.Package
	for _, p := range audit.Packages {
		if p.Kind != "build" {
			out = purl.Append(out, purl.Cargo(p.Name, p.Version))
		}
	}
	return out, nil
}

// Find looks for audit data in data, a part of a program, without the help of
// section headers: compressed data that begins as such JSON begins. It gives
// its place or -1.
func Find(data []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(data[from:], 0x78) // zlib with a window of 32 KiB
		if i < 0 || from+i+2 > len(data) {
			return -1
		}
		from += i
		if level := data[from+1]; (level == 0x01 || level == 0x5e || level == 0x9c || level == 0xda) && begins(data[from:]) {
			return from
		}
		from++
	}
}

func begins(data []byte) bool {
	const start = `{"packages":[`
	z, err := zlib.NewReader(bytes.NewReader(data[:min(len(data), 512)]))
	if err != nil {
		return false
	}
	var head [len(start)]byte
	_, err = io.ReadFull(z, head[:])
	return err == nil && string(head[:]) == start
}
