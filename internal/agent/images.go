package agent

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// maxReport bounds a stored report when it is read back.
const maxReport = 64 << 20

// scanner makes a report of one image of one engine; scan implements it.
type scanner interface {
	Scan(ctx context.Context, socket, digest, name string) (*report.Report, error)
	// Lacks lists what a new scan could look for, which policy asks about, and
	// which one that looked for those did not.
	Lacks(looked []string) []string
}

// images keeps one report per image content on disk, where the gate finds it
// too, and hands new ones to the server. Safe for concurrent use.
type images struct {
	dir      string // the agent's data folder
	scanner  scanner
	policies *policies
	host     string
	publish  func(ctx context.Context, kind api.RecordKind, key string, at time.Time, body any) error

	flights singleflight.Group // one scan per digest at a time
	storing sync.Mutex         // a report that is read, judged and written is not overtaken by a new scan
	mu      sync.Mutex
	cache   map[string]*report.Report // by digest
	tried   map[string]attempt        // by digest; scans whose report lacked something
}

func newImages(dir string, s scanner, pol *policies, host string, publish func(context.Context, api.RecordKind, string, time.Time, any) error) *images {
	return &images{dir: dir, scanner: s, policies: pol, host: host, publish: publish, cache: map[string]*report.Report{}, tried: map[string]attempt{}}
}

// stored returns the report that is known, or nil.
func (im *images) stored(digest string) (*report.Report, error) {
	im.mu.Lock()
	r := im.cache[digest]
	im.mu.Unlock()
	if r != nil {
		return r, nil
	}
	path, err := im.path(digest)
	if err != nil {
		return nil, err
	}
	r, err = readReport(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	im.keep(digest, r)
	return r, nil
}

func (im *images) keep(digest string, r *report.Report) {
	im.mu.Lock()
	defer im.mu.Unlock()
	const most = 256 // reports in memory; the disk has them all
	for k := range im.cache {
		if len(im.cache) < most {
			break
		}
		delete(im.cache, k)
	}
	im.cache[digest] = r
}

// report returns the stored report, or scans now when there is none or policy
// asks about more. Beside an error may be the stored one.
func (im *images) report(ctx context.Context, socket, digest, name string) (*report.Report, error) {
	if _, err := im.path(digest); err != nil {
		return nil, err
	}
	stored, err := im.stored(digest)
	if err != nil { // of another version perhaps: it is made anew
		stored = nil
	}
	if stored != nil && (socket == "" || !im.due(stored)) {
		return stored, nil
	}
	r, err := im.scan(ctx, socket, digest, name)
	if r == nil {
		r = stored
	}
	return r, err
}

// scan makes a report now. Callers that ask for the same content at once share
// one scan.
func (im *images) scan(ctx context.Context, socket, digest, name string) (*report.Report, error) {
	result := im.flights.DoChan(digest, func() (any, error) {
		// The scan outlives an impatient caller: the next one finds its result.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
		r, err := im.scanner.Scan(ctx, socket, digest, name)
		if err != nil {
			return nil, err
		}
		im.note(digest, r.Looked)
		im.storing.Lock()
		defer im.storing.Unlock()
		return r, im.store(ctx, r)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("scan of image %s: %w", name, ctx.Err())
	case done := <-result:
		r, _ := done.Val.(*report.Report)
		return r, done.Err
	}
}

// store judges a report by the policy in force, writes it to disk and sends it
// to the server. im.storing is held.
func (im *images) store(ctx context.Context, r *report.Report) error {
	_, stage, _ := im.policies.state()
	verdict := im.policies.Set().Image(time.Now(), imageFacts(policy.Subject{Image: r.Image, Stage: stage, Host: im.host}, r, im.policies.statements()))
	r.Verdict = &verdict
	path, err := im.path(r.Image.Digest)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report of image %s: %w", r.Image.Name(), err)
	}
	if err := writeDurably(path, raw); err != nil {
		return fmt.Errorf("report of image %s: %w", r.Image.Name(), err)
	}
	im.keep(r.Image.Digest, r)
	key := fmt.Sprintf("report/%s/%s/%d", im.host, r.Image.Digest, r.Time.UnixNano())
	return im.publish(ctx, api.RecordReport, key, r.Time, r)
}

// rejudge gives every stored report the findings of new intelligence, without
// reading an image again.
func (im *images) rejudge(ctx context.Context, match func(context.Context, *report.Report) error) error {
	entries, err := os.ReadDir(filepath.Join(im.dir, api.DirReports))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".json" || ctx.Err() != nil {
			continue
		}
		failed = append(failed, im.rejudgeOne(ctx, filepath.Join(im.dir, api.DirReports, entry.Name()), match))
	}
	return errors.Join(failed...)
}

func (im *images) rejudgeOne(ctx context.Context, path string, match func(context.Context, *report.Report) error) error {
	im.storing.Lock()
	defer im.storing.Unlock()
	r, err := readReport(path)
	if err != nil {
		return err
	}
	if err := match(ctx, r); err != nil {
		return err
	}
	r.Time = time.Now().UTC()
	return im.store(ctx, r)
}

func (im *images) path(digest string) (string, error) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != 32 {
		return "", fmt.Errorf("image digest %q: not sha256: and 64 hex digits", digest)
	}
	return filepath.Join(im.dir, api.DirReports, strings.ToLower(sum)+".json"), nil
}

func readReport(path string) (*report.Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxReport {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxReport)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != report.SchemaVersion {
		return nil, fmt.Errorf("%s: report schema %d, this version reads %d: it is made anew when it is asked for", path, r.Schema, report.SchemaVersion)
	}
	return &r, nil
}

// imageFacts is what policy judges an image by; r may be nil.
func imageFacts(subject policy.Subject, r *report.Report, said *report.Statements) policy.ImageFacts {
	if r == nil {
		return policy.ImageFacts{Subject: subject}
	}
	facts := said.Facts(r)
	if len(subject.Image.References) == 0 {
		subject.Image = facts.Image
	}
	facts.Subject = subject
	return facts
}
