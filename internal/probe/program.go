package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

// ran is what the canary program writes as its very first act.
const ran = "breakwater canary ran\n"

// canaryProgram is the smallest static program that can tell that it ran: it
// writes ran to its standard output and exits with status 0. It is put together
// here, so that probing needs no file and no compiler on the host.
func canaryProgram() ([]byte, error) {
	code, machine, err := canaryCode(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{
		uint16(2), machine, uint32(1), uint64(base + headers), uint64(64), uint64(0), uint32(0), // ET_EXEC … flags
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0), // header sizes and counts
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x10000), // one PT_LOAD, r-x
	} {
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			return nil, err
		}
	}
	b.Write(code)
	return b.Bytes(), nil
}

// canaryCode is write(1, ran), exit(0) and the text, and the ELF machine.
func canaryCode(arch string) (code []byte, machine uint16, err error) {
	n := len(ran)
	switch arch {
	case "amd64":
		code = []byte{
			0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
			0xbf, 1, 0, 0, 0, // mov edi, 1
			0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16]: the text
			0xba, byte(n), 0, 0, 0, // mov edx, n
			0x0f, 0x05, // syscall
			0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
			0x31, 0xff, // xor edi, edi
			0x0f, 0x05, // syscall
		}
		machine = 62
	case "arm64":
		for _, instruction := range []uint32{
			0xd2800020,                // mov x0, #1
			0x10000001 | 7<<5,         // adr x1, +28: the text
			0xd2800002 | uint32(n)<<5, // mov x2, #n
			0xd2800808,                // mov x8, #64 (write)
			0xd4000001,                // svc #0
			0xd2800000,                // mov x0, #0
			0xd2800ba8,                // mov x8, #93 (exit)
			0xd4000001,                // svc #0
		} {
			code = binary.LittleEndian.AppendUint32(code, instruction)
		}
		machine = 183
	default:
		return nil, 0, fmt.Errorf("no canary program for %s", arch)
	}
	return append(code, ran...), machine, nil
}
