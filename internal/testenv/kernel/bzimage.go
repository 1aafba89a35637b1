package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxKernel bounds an unpacked kernel.
const maxKernel = 256 << 20

// vmlinux takes the ELF kernel out of an x86 bzImage, so that it can be booted
// by its PVH note: the compressed image's own unpacking costs seconds under
// emulation. Offsets are those of the x86 boot protocol
// (Documentation/arch/x86/boot.rst): setup_sects at 0x1f1, payload_offset at
// 0x248 counted from the end of the set-up sectors, payload_length at 0x24c.
// The payload's last four bytes are its unpacked size.
func vmlinux(image []byte) ([]byte, error) {
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" {
		return nil, errors.New("not an x86 kernel image: no boot protocol header")
	}
	setup := int64(image[0x1f1])
	if setup == 0 {
		setup = 4
	}
	start := (setup+1)*512 + int64(binary.LittleEndian.Uint32(image[0x248:]))
	length := int64(binary.LittleEndian.Uint32(image[0x24c:]))
	if length < 8 || start+length > int64(len(image)) {
		return nil, fmt.Errorf("payload of %d bytes at %d lies outside of the image (%d bytes)", length, start, len(image))
	}
	payload := image[start : start+length]
	size := binary.LittleEndian.Uint32(payload[length-4:])
	if size > maxKernel {
		return nil, fmt.Errorf("unpacked kernel would be %d bytes, more than %d", size, maxKernel)
	}
	kernel, err := unpack(payload[:length-4], int(size))
	if err != nil {
		return nil, err
	}
	if _, err := elf.NewFile(bytes.NewReader(kernel)); err != nil {
		return nil, fmt.Errorf("payload is no ELF kernel: %w", err)
	}
	return kernel, nil
}

// unpack reads the two compressions that Debian's kernels use.
func unpack(payload []byte, size int) ([]byte, error) {
	switch {
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxKernel), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		out, err := d.DecodeAll(payload, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("zstd payload: %w", err)
		}
		return out, nil
	case bytes.HasPrefix(payload, []byte{0x02, 0x21, 0x4c, 0x18}):
		return unpackLZ4(payload[4:], size)
	default:
		return nil, fmt.Errorf("payload begins with % x: neither zstd nor lz4", payload[:4])
	}
}

// unpackLZ4 reads LZ4's legacy frame after its magic: blocks of a 32-bit
// length and that many bytes, until the data ends.
func unpackLZ4(data []byte, size int) ([]byte, error) {
	out := make([]byte, 0, size)
	for len(data) >= 4 && len(out) < size {
		n := int(binary.LittleEndian.Uint32(data))
		if n <= 0 || n > len(data)-4 {
			return nil, fmt.Errorf("lz4 block of %d bytes in %d", n, len(data)-4)
		}
		var err error
		// A block's matches never reach back before the block.
		if out, err = lz4Block(out, data[4:4+n], size); err != nil {
			return nil, err
		}
		data = data[4+n:]
	}
	if len(out) != size {
		return nil, fmt.Errorf("lz4 payload unpacks to %d bytes, not the %d it names", len(out), size)
	}
	return out, nil
}

var errLZ4 = errors.New("malformed lz4 block")

// lz4Block appends one unpacked block to out, which may not grow above limit.
// The format: a token (literal length, match length − 4), literals, a 16-bit
// offset, repeated; 15 in a nibble is continued by bytes up to the first that
// is not 255; the last sequence has no match.
func lz4Block(out, in []byte, limit int) ([]byte, error) {
	base := len(out)
	for len(in) > 0 {
		token := in[0]
		literals, rest, err := lz4Length(int(token>>4), in[1:])
		if err != nil {
			return nil, err
		}
		if literals > len(rest) || literals > limit-len(out) {
			return nil, errLZ4
		}
		out, in = append(out, rest[:literals]...), rest[literals:]
		if len(in) == 0 {
			break
		}
		if len(in) < 2 {
			return nil, errLZ4
		}
		offset := int(binary.LittleEndian.Uint16(in))
		match, rest, err := lz4Length(int(token&15), in[2:])
		if err != nil {
			return nil, err
		}
		match, in = match+4, rest
		if offset == 0 || offset > len(out)-base || match > limit-len(out) {
			return nil, errLZ4
		}
		for from := len(out) - offset; match > 0; match-- { // may overlap what it writes
			out = append(out, out[from])
			from++
		}
	}
	return out, nil
}

func lz4Length(n int, in []byte) (int, []byte, error) {
	if n < 15 {
		return n, in, nil
	}
	for i, b := range in {
		if n += int(b); n > maxKernel {
			return 0, nil, errLZ4
		}
		if b != 255 {
			return n, in[i+1:], nil
		}
	}
	return 0, nil, errLZ4
}
