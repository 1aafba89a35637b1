package feed

import (
	"archive/zip"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/vuln"
)

// Bounds of one bulk export. OSV's largest (npm, with every malicious package)
// held about 230,000 records in 2026.
const (
	maxRecords      = 2_000_000
	maxUncompressed = 16 << 30
)

// ReadExport reads the records of an ecosystem's all.zip in the order of their
// names and calls each with every one. A malformed record, a name that is not
// ID.json, or an oversized entry is handed to skip and reading goes on; sizes
// are counted on what is really unpacked, never believed. An archive that is
// unreadable, or larger unpacked than the bound, is an error, and so is one
// from which more is skipped than read.
func ReadExport(ctx context.Context, r io.ReaderAt, size int64, each func(vuln.Advisory) error, skip func(name string, err error)) error {
	archive, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return fmt.Errorf("all.zip: %w", err)
	}
	if len(archive.File) > maxRecords {
		return fmt.Errorf("all.zip: more than %d entries", maxRecords)
	}
	slices.SortFunc(archive.File, func(a, b *zip.File) int { return cmp.Compare(a.Name, b.Name) })
	budget, read, skipped := int64(maxUncompressed), 0, 0
	for _, file := range archive.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := readEntry(file)
		if budget -= int64(len(data)); budget < 0 {
			return fmt.Errorf("all.zip: unpacks to more than %d bytes", int64(maxUncompressed))
		}
		var advisory vuln.Advisory
		if err == nil {
			advisory, err = ParseOSV(data)
		}
		if err != nil {
			skipped++
			skip(clip(file.Name, maxID), err)
			continue
		}
		read++
		if err := each(advisory); err != nil {
			return err
		}
	}
	if skipped > read {
		return fmt.Errorf("all.zip: %d of %d records are malformed", skipped, skipped+read)
	}
	return nil
}

func readEntry(file *zip.File) ([]byte, error) {
	id, ok := strings.CutSuffix(file.Name, ".json")
	if !ok || id == "" || strings.ContainsAny(id, `/\`) || !printable(strings.ReplaceAll(id, " ", "_")) {
		return nil, errors.New("the name is not ID.json")
	}
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // read to its end or given up: nothing to lose
	data, err := io.ReadAll(io.LimitReader(r, MaxRecord+1))
	if err == nil && len(data) > MaxRecord {
		err = fmt.Errorf("unpacks to more than %d bytes", MaxRecord)
	}
	return data, err
}

// Ecosystems reads ecosystems.txt: one name a line. Names with a release
// ("Debian:12") are left out, as their records are in the family's export too.
func Ecosystems(r io.Reader) ([]string, error) {
	var names []string
	lines := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for lines.Scan() {
		name := strings.TrimSpace(lines.Text())
		if name == "" || strings.Contains(name, ":") || !ValidEcosystem(name) {
			continue
		}
		names = append(names, name)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("ecosystems.txt: %w", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ValidEcosystem says whether a name can be an ecosystem's, and so part of an
// address: letters, digits, spaces, dots, dashes; no path.
func ValidEcosystem(name string) bool {
	if name == "" || len(name) > 60 || name[0] == '.' {
		return false
	}
	for _, c := range name {
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == ' ' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
