package intel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
)

// dictionary is what packed rows look like, the commonest last: the rows are
// too short to be compressed without it. It is part of the schema.
const dictionary = `"under investigation""end of life""will not fix""deferred","severity":"medium","severity":"low","severity":"negligible"` +
	`"cvss":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N","cvss":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H` +
	`"cvss":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"https://pkg.go.dev/vuln/GO-202https://github.com/advisories/GHSA-` +
	` vulnerability in allows attackers denial of service buffer overflow prototype pollution cross-site scripting remote code execution` +
	`{"id":"MAL-2025-","title":"Malicious code in  (npm)","url":"https://osv.dev/vulnerability/` +
	`{"id":"GHSA-","aliases":["CVE-202","title":"","severity":"critical","severitySource":"ghsa","severity":"high","severitySource":"cvss-v3","severity":"unknown","source":"osv"}` +
	`,"published":"2024-01-01T00:00:00Z","modified":"2026-01-01T00:00:00Z"` +
	`{"id":"CVE-202","title":"","url":"https://security-tracker.debian.org/tracker/CVE-202","source":"debian"}` +
	`[{"ranges":[{"events":[{"introduced":"0"}]}],"versions":["1.0.0"],"state":"affected"}]` +
	`[{"ranges":[{"events":[{"introduced":"0"},{"last_affected":"` +
	`[{"ranges":[{"events":[{"introduced":"0"},{"fixed":"1.0-1+deb12u1"}]}],"state":"fixed"}]`

// pack turns a value into the bytes of a row.
func pack(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return deflate(text)
}

func deflate(text []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := flate.StatelessDeflate(&out, text, true, []byte(dictionary)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unpacker reads rows. It is not safe for concurrent use.
type unpacker struct{ r io.ReadCloser }

func newUnpacker() *unpacker {
	return &unpacker{flate.NewReaderDict(bytes.NewReader(nil), []byte(dictionary))}
}

func (u *unpacker) unpack(row []byte, v any) error {
	text, err := u.inflate(row)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func (u *unpacker) inflate(row []byte) ([]byte, error) {
	if err := u.r.(flate.Resetter).Reset(bytes.NewReader(row), []byte(dictionary)); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(u.r, maxRow+1))
	if err != nil {
		return nil, fmt.Errorf("a row: %w", err)
	}
	if len(text) > maxRow {
		return nil, fmt.Errorf("a row unpacks to more than %d bytes", maxRow)
	}
	return text, nil
}

// maxRow bounds an unpacked row: what one record may hold.
const maxRow = 32 << 20
