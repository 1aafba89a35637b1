package gate

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

const (
	maxBundle = 16 << 20
	maxReport = 64 << 20
	maxKept   = 32 << 20 // bytes of reports kept in memory, as they are on disk
)

// ruleset is one signed bundle, compiled.
type ruleset struct {
	set    *policy.Set
	said   *report.Statements
	unsaid error // VEX documents that cannot be read: they say nothing
	stage  string
	key    string // of the signer, to tell a rollback from a new authority
}

// rules is the policy in force, from the agent's data folder. It follows the
// files there; what is not signed right or not understood changes nothing, and
// the last good policy stays in force. Safe for concurrent use.
type rules struct {
	dir string

	mu      sync.Mutex
	seen    [2]stamp // of the bundle and the key, when they were last read
	good    *ruleset // nil: never had one
	problem error    // why the newest files are not in force
}

// stamp identifies one version of a file.
type stamp struct {
	inode      uint64
	size       int64
	mtime      time.Time
	changeTime syscall.Timespec
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{size: info.Size(), mtime: info.ModTime()}
	}
	return stamp{inode: st.Ino, size: info.Size(), mtime: info.ModTime(), changeTime: st.Ctim}
}

// current gives the policy in force; an error means that there is none.
func (r *rules) current() (*ruleset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := [2]stamp{stampOf(filepath.Join(r.dir, api.FilePolicy)), stampOf(filepath.Join(r.dir, api.FilePolicyKey))}
	if now != r.seen || r.seen == [2]stamp{} {
		r.seen = now
		r.reload()
	}
	if r.good == nil {
		return nil, fmt.Errorf("no policy is in force: %w", r.problem)
	}
	return r.good, nil
}

// trouble is why the newest files are not in force; nil when they are.
func (r *rules) trouble() error {
	_, err := r.current()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.problem)
}

func (r *rules) reload() {
	next, err := loadRules(r.dir)
	if err == nil && r.good != nil && next.key == r.good.key && next.set.Generation() < r.good.set.Generation() {
		err = fmt.Errorf("%s: generation %d is older than %d, which is in force: it was put back by hand",
			filepath.Join(r.dir, api.FilePolicy), next.set.Generation(), r.good.set.Generation())
	}
	r.problem = err
	if err == nil {
		r.good, r.problem = next, next.unsaid
	}
}

func loadRules(dir string) (*ruleset, error) {
	key, err := readKey(filepath.Join(dir, api.FilePolicyKey))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, api.FilePolicy)
	data, err := readBounded(file, maxBundle)
	if err != nil {
		return nil, fmt.Errorf("policy bundle: %w (the agent writes it)", err)
	}
	var signed api.Signed
	if err := json.Unmarshal(data, &signed); err != nil {
		return nil, fmt.Errorf("policy bundle %s: %w", file, err)
	}
	if !ed25519.Verify(key, append([]byte(api.PolicySignatureContext), signed.Payload...), signed.Signature) {
		return nil, fmt.Errorf("policy bundle %s: not signed by the key in %s", file, filepath.Join(dir, api.FilePolicyKey))
	}
	var bundle api.PolicyBundle
	if err := json.Unmarshal(signed.Payload, &bundle); err != nil {
		return nil, fmt.Errorf("policy bundle %s: %w", file, err)
	}
	if bundle.Version != api.Version {
		return nil, fmt.Errorf("policy bundle %s: version %d, this gate reads %d: upgrade the older of the two", file, bundle.Version, api.Version)
	}
	set, err := compile(bundle)
	if err != nil {
		return nil, fmt.Errorf("policy bundle %s, generation %d: %w", file, bundle.Generation, err)
	}
	sum := sha256.Sum256(key)
	said, unsaid := report.ReadStatements(bundle.VEX)
	return &ruleset{set: set, said: said, unsaid: unsaid, stage: bundle.Stage, key: hex.EncodeToString(sum[:])}, nil
}

func compile(bundle api.PolicyBundle) (*policy.Set, error) {
	var all []*policy.Policy
	for _, f := range bundle.Policies {
		parsed, err := policy.Parse(f.Name, []byte(f.Source))
		if err != nil {
			return nil, err
		}
		all = append(all, parsed...)
	}
	return policy.NewSet(bundle.Generation, all)
}

func readKey(path string) (ed25519.PublicKey, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("policy key: %w (the agent writes it when it is enrolled)", err)
	}
	dir := filepath.Dir(path)
	for _, p := range []string{path, dir, filepath.Dir(dir)} { // whoever can rename a folder can replace the key
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("policy key: %w", err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("policy key %s: others than its owner can write %s (mode %v): anybody could sign policy; chmod go-w it and check the key", path, p, info.Mode().Perm())
		}
	}
	text, err := readBounded(path, 4096)
	if err != nil {
		return nil, fmt.Errorf("policy key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("policy key %s: not %d bytes in hex", path, ed25519.PublicKeySize)
	}
	return key, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// reports are the image scans on the agent's disk. Safe for concurrent use.
type reports struct {
	dir string

	mu   sync.Mutex
	kept map[string]keptReport
	size int64 // of kept
}

type keptReport struct {
	stamp  stamp
	report *report.Report
}

// of gives the report of an image by its config digest; nil without an error
// when it was never scanned.
func (r *reports) of(digest string) (*report.Report, error) {
	if !isDigest(digest) {
		return nil, nil
	}
	path := filepath.Join(r.dir, api.DirReports, strings.TrimPrefix(digest, "sha256:")+".json")
	now := stampOf(path)
	if now == (stamp{}) {
		return nil, nil
	}
	r.mu.Lock()
	kept, ok := r.kept[digest]
	r.mu.Unlock()
	if ok && kept.stamp == now {
		return kept.report, nil
	}
	found, err := readReport(path, digest)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size += now.size - r.kept[digest].stamp.size; r.kept == nil || r.size > maxKept {
		r.kept, r.size = map[string]keptReport{}, now.size
	}
	r.kept[digest] = keptReport{now, found}
	return found, nil
}

func readReport(path, digest string) (*report.Report, error) {
	data, err := readBounded(path, maxReport)
	if err != nil {
		return nil, fmt.Errorf("image report: %w", err)
	}
	found := &report.Report{}
	if err := json.Unmarshal(data, found); err != nil {
		return nil, fmt.Errorf("image report %s: %w", path, err)
	}
	if found.Image.Digest != digest {
		return nil, fmt.Errorf("image report %s: it is about %s", path, found.Image.Digest)
	}
	if found.Schema != report.SchemaVersion {
		return nil, fmt.Errorf("image report %s: schema %d, this gate reads %d", path, found.Schema, report.SchemaVersion)
	}
	return found, nil
}

// isDigest says whether text is "sha256:" and 64 hex digits: the only text
// that ever becomes part of a path here.
func isDigest(text string) bool {
	digits, ok := strings.CutPrefix(text, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
