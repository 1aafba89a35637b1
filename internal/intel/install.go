package intel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/breakwater-sec/breakwater/internal/durable"
)

// The reasons for which a bundle of somebody else's is not installed, beside
// those of Open.
var (
	ErrOlder  = errors.New("it is older than the intelligence bundle in use")
	ErrNoRoom = errors.New("no room on the disk for the intelligence bundle")
)

const (
	// maxBundle bounds a bundle's database that is taken from elsewhere, in
	// bytes: many times what all ecosystems of OSV take.
	maxBundle = 8 << 30
	// reserve of the disk stays free, or an eighth of a small one: the agent's
	// incidents need it more.
	reserve = 64 << 20
)

// Offer is a bundle that somebody hands out; see Handout.
type Offer struct {
	Manifest, Signature []byte
	// Part gives the database from offset on, at least a byte of it.
	Part func(ctx context.Context, offset int64) ([]byte, error)
}

// Install takes a bundle from elsewhere and makes it the one in use, in one
// step, if it is signed by the key that this data folder trusts and newer than
// the one in use. Whatever fails, the one in use stays. What had come when the
// transfer broke off is kept, and the next call for the same bundle goes on
// from there. Errors wrap ErrUntrusted, ErrOlder, ErrNoRoom, ErrSchema,
// ErrCorrupt or ErrBusy where one of them is the reason.
func Install(ctx context.Context, data string, o Offer) (Manifest, error) {
	m, err := checkOffer(data, o)
	if err != nil {
		return Manifest{}, err
	}
	f := folderOf(data)
	unlock, err := f.lock()
	if err != nil {
		return Manifest{}, err
	}
	defer unlock()
	if used, err := Current(data); err == nil && used == idOf(o.Manifest) {
		return m, nil
	}
	scratch := filepath.Join(string(f), buildPrefix+"fetch-"+idOf(o.Manifest)[:16])
	if err := f.removeUnfinished(filepath.Base(scratch)); err != nil {
		return Manifest{}, fmt.Errorf("an unfinished build: %w", err)
	}
	known, err := takeFromCurrent(data, m, scratch)
	if err != nil {
		return Manifest{}, err
	}
	if !known {
		if err := transfer(ctx, filepath.Join(scratch, dbName), m, o); err != nil {
			return Manifest{}, err
		}
	}
	if err := f.complete(scratch, m, o); err != nil {
		return Manifest{}, errors.Join(roomError(err), os.RemoveAll(scratch))
	}
	return m, nil
}

// checkOffer judges what the manifest alone tells.
func checkOffer(data string, o Offer) (m Manifest, err error) {
	pin, err := readPin(data)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%w: %s is missing: enrol this agent again", ErrUntrusted, pinPath(data))
	}
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if !verify(pin, o.Manifest, o.Signature) {
		return m, fmt.Errorf("%w: the one that is handed out is not signed by the key that this agent was enrolled with (%s)", ErrUntrusted, fingerprint(pin))
	}
	if err := json.Unmarshal(o.Manifest, &m); err != nil {
		return m, fmt.Errorf("%w: its manifest: %w", ErrCorrupt, err)
	}
	if m.Schema != Schema {
		return m, fmt.Errorf("%w: it has %d, this breakwater reads %d: upgrade the older side", ErrSchema, m.Schema, Schema)
	}
	if m.Size <= 0 || m.Size > maxBundle || len(m.SHA256) != 64 {
		return m, fmt.Errorf("%w: its manifest speaks of %d bytes with digest %q", ErrCorrupt, m.Size, m.SHA256)
	}
	// One in use that does not verify is as good as none.
	if used, err := Verify(data); err == nil && m.Built.Before(used.Built) {
		return m, fmt.Errorf("%w: built %s, the one in use %s; to take it all the same, remove %s", ErrOlder,
			m.Built.Format("2006-01-02T15:04:05Z"), used.Built.Format("2006-01-02T15:04:05Z"), folderOf(data).current())
	}
	return m, nil
}

// takeFromCurrent spares the transfer where the bundle in use has the same
// content, and only its sources were confirmed anew.
func takeFromCurrent(data string, m Manifest, scratch string) (bool, error) {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return false, roomError(err)
	}
	used, err := Verify(data)
	if err != nil || used.SHA256 != m.SHA256 {
		return false, nil
	}
	dir, err := currentFolder(data)
	if err != nil {
		return false, err
	}
	path := filepath.Join(scratch, dbName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, os.Link(filepath.Join(dir, dbName), path)
}

// transfer fetches what is missing of the database and checks the whole.
func transfer(ctx context.Context, path string, m Manifest, o Offer) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return roomError(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	have := info.Size()
	if err := room(path, m.Size-have); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	for have < m.Size {
		part, err := o.Part(ctx, have)
		if err != nil {
			return fmt.Errorf("intelligence bundle %s: broken off at %d of %d bytes: %w", m.Version, have, m.Size, err)
		}
		if len(part) == 0 || have+int64(len(part)) > m.Size {
			return errors.Join(fmt.Errorf("%w: %d bytes came at %d of %d", ErrCorrupt, len(part), have, m.Size), os.Remove(path))
		}
		if _, err := file.Write(part); err != nil {
			return errors.Join(roomError(err), os.Remove(path))
		}
		have += int64(len(part))
	}
	digest, size, err := digestFile(path)
	if err == nil && (digest != m.SHA256 || size != m.Size) {
		err = fmt.Errorf("%w: what came is not what was signed (%d bytes, %d expected)", ErrCorrupt, size, m.Size)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// room says whether the disk can take so many bytes more.
func room(path string, need int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &st); err != nil {
		return err
	}
	free, keep := int64(st.Bavail)*st.Bsize, min(reserve, int64(st.Blocks)*st.Bsize/8)
	if free < need+keep {
		return fmt.Errorf("%w: %s has %d bytes left, it needs %d and %d stay free for incidents: make room there", ErrNoRoom, filepath.Dir(path), free, need, keep)
	}
	return nil
}

func roomError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w: make room there", ErrNoRoom, err)
	}
	return err
}

// complete publishes a scratch folder that holds the whole database.
func (f folder) complete(scratch string, m Manifest, o Offer) error {
	ready := filepath.Join(scratch, "ready")
	err := os.Mkdir(ready, 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	db := filepath.Join(ready, dbName)
	if err := errors.Join(os.Rename(filepath.Join(scratch, dbName), db), os.Chmod(db, 0o644)); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(ready, manifestName), o.Manifest, 0o644); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(ready, signatureName), o.Signature, 0o644); err != nil {
		return err
	}
	// One that was in use before the one in use now, if it is there.
	if err := os.RemoveAll(filepath.Join(f.bundles(), bundleName(scratch, m.Built))); err != nil {
		return err
	}
	if err := f.publish(scratch, ready, m.Built); err != nil {
		return fmt.Errorf("publish the bundle in %s: %w", f, err)
	}
	return os.RemoveAll(scratch)
}
