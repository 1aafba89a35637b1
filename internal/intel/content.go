package intel

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"io/fs"
	"iter"
	"time"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

// Malware says whether a file is known as malicious software by its SHA-256 or
// MD5, in hex: its name, which may be empty, and the feed that says so. A hash
// that cannot be looked up counts as not known: what is not in the bundle is
// answered from memory, and a bundle that cannot be read is told by Match.
func (b *Bundle) Malware(hash string) (name, source string, ok bool) {
	sum, err := hex.DecodeString(hash)
	if err != nil || len(sum) != 32 && len(sum) != 16 || !b.files.has(fileHash(sum)) {
		return "", "", false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.queries.malware.QueryRowContext(context.Background(), sum).Scan(&name, &source) // one row of a local file
	return name, source, err == nil
}

// MalwareCount is how many hashes of malicious files the bundle has; 0 when
// that cannot be read.
func (b *Bundle) MalwareCount() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.db.QueryRowContext(context.Background(), "SELECT count(*) FROM malware").Scan(&n); err != nil {
		return 0
	}
	return n
}

// Indicator is a peer on the network that tells of malicious software.
type Indicator struct {
	Kind       feed.ObservableKind // address, network or domain
	Value      string              // 192.0.2.1, 192.0.2.0/24, evil.example (its subdomains too)
	Name       string              // what it tells of
	Source     string              // the feed
	Confidence int                 // the publisher's, 0 to 100; 0 when it states none
	Ends       time.Time           // zero when the publisher states no end
}

// indicatorPage is how many are read at once: between two pages other queries
// go on.
const indicatorPage = 1000

// Indicators gives every indicator that has not expired, by kind and value. An
// error is the last thing it gives.
func (b *Bundle) Indicators(ctx context.Context) iter.Seq2[Indicator, error] {
	return func(yield func(Indicator, error) bool) {
		var last Indicator
		for {
			page, err := b.indicatorsAfter(ctx, last)
			if err != nil {
				yield(Indicator{}, err)
				return
			}
			for _, in := range page {
				if !yield(in, nil) {
					return
				}
			}
			if len(page) < indicatorPage {
				return
			}
			last = page[len(page)-1]
		}
	}
}

func (b *Bundle) indicatorsAfter(ctx context.Context, last Indicator) ([]Indicator, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.db.QueryContext(ctx, `SELECT kind, value, name, feed, confidence, ends FROM indicator
		WHERE (kind, value, feed) > (?1, ?2, ?3) AND (ends = 0 OR ends > ?4) ORDER BY kind, value, feed LIMIT ?5`,
		string(last.Kind), last.Value, last.Source, b.now().Unix(), indicatorPage)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var page []Indicator
	for rows.Next() {
		var in Indicator
		var ends int64
		if err := rows.Scan(&in.Kind, &in.Value, &in.Name, &in.Source, &in.Confidence, &ends); err != nil {
			return nil, err
		}
		if ends > 0 {
			in.Ends = time.Unix(ends, 0).UTC()
		}
		page = append(page, in)
	}
	return page, rows.Err()
}

// maxDetectionBytes bounds all detections of a bundle: every agent parses them.
const maxDetectionBytes = 16 << 20

// Detections holds the bundle's detections, a YAML file each, as package detect
// loads them. It is nil when there are none. Their content is as their
// publisher wrote it: whoever loads them checks it. left names those that are
// more than all may be long together.
func (b *Bundle) Detections(ctx context.Context) (files fs.FS, left []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.db.QueryContext(ctx, "SELECT name, text FROM detection GROUP BY name ORDER BY name")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var archive bytes.Buffer
	w, found := zip.NewWriter(&archive), false
	for rows.Next() {
		var name string
		var text []byte
		if err := rows.Scan(&name, &text); err != nil {
			return nil, nil, err
		}
		if archive.Len()+len(text) > maxDetectionBytes {
			left = append(left, name)
			continue
		}
		file, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			return nil, nil, err
		}
		if _, err := file.Write(text); err != nil {
			return nil, nil, err
		}
		found = true
	}
	if err := rows.Err(); err != nil || !found {
		return nil, nil, err
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	files, err = zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	return files, left, err
}
