package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// policies holds the policy set in force: the last good bundle, from the
// server or from the disk. Safe for concurrent use.
type policies struct {
	dir   string // the agent's data folder
	agent string

	mu     sync.Mutex
	bundle api.PolicyBundle
	set    *policy.Set
	said   *report.Statements
	unsaid error // which VEX documents cannot be read
}

// errOld is returned for a bundle that is not newer than the one in force.
var errOld = errors.New("not newer than the policy in force")

// Set is the set in force; an empty one before the first bundle.
func (p *policies) Set() *policy.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set
}

// statements of the bundle in force, nil before the first.
func (p *policies) statements() *report.Statements {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// unreadable names the VEX documents of the bundle in force that say nothing
// here, because they cannot be read.
func (p *policies) unreadable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unsaid
}

// inForce takes a verified bundle. Callers hold mu.
func (p *policies) inForce(bundle api.PolicyBundle, set *policy.Set) {
	p.bundle, p.set = bundle, set
	p.said, p.unsaid = report.ReadStatements(bundle.VEX)
}

// promotions of the bundle in force.
func (p *policies) promotions() []api.Promotion {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bundle.Promotions
}

// exceptions of the bundle in force.
func (p *policies) exceptions() []api.Exception {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bundle.Exceptions
}

// Generation and Stage of the bundle in force; 0 and "" before the first.
func (p *policies) state() (generation uint64, stage string, expires time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bundle.Generation, p.bundle.Stage, p.bundle.Expires
}

// load takes the bundle that lies on disk, if there is one. It was verified
// when it was accepted and is verified again: the disk is not trusted more
// than the bus. Expiry bounds acceptance, not force, so it is not asked here.
func (p *policies) load() error {
	empty, err := policy.NewSet(0, nil)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.set = empty
	p.mu.Unlock()
	raw, err := os.ReadFile(filepath.Join(p.dir, api.FilePolicy))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("policy in force: %w", err)
	}
	var signed api.Signed
	if err := json.Unmarshal(raw, &signed); err != nil {
		return fmt.Errorf("policy in force: %s: %w: it is fetched again from the server", api.FilePolicy, err)
	}
	bundle, set, err := p.verify(signed)
	if err != nil {
		return fmt.Errorf("policy in force: %s: %w: it is fetched again from the server", api.FilePolicy, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inForce(bundle, set)
	return nil
}

// accept verifies a bundle from the server, writes it to disk and makes it the
// one in force. It returns errOld (wrapped) for a generation that is not newer,
// unless that renews the one in force, whose time is running out.
func (p *policies) accept(signed api.Signed, now time.Time) error {
	bundle, set, err := p.verify(signed)
	if err != nil {
		return fmt.Errorf("policy bundle from the server: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case bundle.Generation < p.bundle.Generation:
		return fmt.Errorf("policy bundle from the server: generation %d: %w (generation %d): refused as a replay", bundle.Generation, errOld, p.bundle.Generation)
	case bundle.Generation == p.bundle.Generation && !p.renews(bundle, now):
		return fmt.Errorf("policy bundle from the server: generation %d: %w", bundle.Generation, errOld)
	case !bundle.Expires.IsZero() && now.After(bundle.Expires):
		return fmt.Errorf("policy bundle from the server: generation %d expired at %s: not accepted (is this host's clock right?)", bundle.Generation, bundle.Expires.Format(time.RFC3339))
	}
	raw, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(p.dir, api.FilePolicy), raw); err != nil {
		return fmt.Errorf("policy bundle from the server: %w", err)
	}
	p.inForce(bundle, set)
	return nil
}

// renews says whether a bundle of the generation in force is worth taking
// instead of it: it came later, and half the time of that one is over. Callers
// hold mu.
func (p *policies) renews(bundle api.PolicyBundle, now time.Time) bool {
	have := p.bundle
	return bundle.Issued.After(have.Issued) && now.After(have.Issued.Add(have.Expires.Sub(have.Issued)/2))
}

func (p *policies) verify(signed api.Signed) (api.PolicyBundle, *policy.Set, error) {
	var bundle api.PolicyBundle
	key, err := p.key()
	if err != nil {
		return bundle, nil, err
	}
	message := append([]byte(api.PolicySignatureContext), signed.Payload...)
	if !ed25519.Verify(key, message, signed.Signature) {
		return bundle, nil, fmt.Errorf("signature does not verify with the key this agent enrolled with (%s, bundle says %s)", keyID(key), signed.KeyID)
	}
	if err := json.Unmarshal(signed.Payload, &bundle); err != nil {
		return bundle, nil, err
	}
	if bundle.Version != api.Version {
		return bundle, nil, fmt.Errorf("message version %d: this agent speaks %d: upgrade the older side", bundle.Version, api.Version)
	}
	if bundle.Target != p.agent {
		return bundle, nil, fmt.Errorf("made for agent %q, this is %q", bundle.Target, p.agent)
	}
	var all []*policy.Policy
	for _, file := range bundle.Policies {
		parsed, err := policy.Parse(file.Name, []byte(file.Source))
		if err != nil {
			return bundle, nil, fmt.Errorf("policy %q: %w", file.Name, err)
		}
		all = append(all, parsed...)
	}
	set, err := policy.NewSet(bundle.Generation, all)
	return bundle, set, err
}

func (p *policies) key() (ed25519.PublicKey, error) {
	path := filepath.Join(p.dir, api.FilePolicyKey)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("policy key: %w: enrol the agent", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("policy key: %s is not an Ed25519 public key in hex: enrol the agent again", path)
	}
	return key, nil
}

func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// writeDurably replaces a file below a folder of the agent's, which it makes.
func writeDurably(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o640)
}
