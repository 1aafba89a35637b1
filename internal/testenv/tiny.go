package testenv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

// TinyProgram is the smallest static program: its first instructions write one
// byte to standard output. Whatever is killed after its first instruction
// shows by that byte.
func TinyProgram() ([]byte, error) {
	var code []byte
	machine := uint16(62)
	switch runtime.GOARCH {
	case "amd64":
		code = []byte{
			0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
			0xbf, 1, 0, 0, 0, // mov edi, 1
			0x48, 0x8d, 0x35, 0x10, 0, 0, 0, // lea rsi, [rip+16]
			0xba, 1, 0, 0, 0, // mov edx, 1
			0x0f, 0x05, // syscall
			0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
			'x',
		}
		binary.LittleEndian.PutUint32(code[13:], uint32(len(code)-1-17))
	default:
		return nil, fmt.Errorf("no tiny program for %s", runtime.GOARCH)
	}
	const base, head = 0x400000, 64 + 56
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	write := func(v ...any) {
		for _, x := range v {
			_ = binary.Write(&b, binary.LittleEndian, x)
		}
	}
	write(uint16(2), machine, uint32(1), uint64(base+head), uint64(64), uint64(0), uint32(0))
	write(uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
	size := uint64(head + len(code))
	write(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000))
	b.Write(code)
	return b.Bytes(), nil
}
