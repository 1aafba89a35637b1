package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Registry is a registry whose images the server reads by itself.
type Registry struct {
	Name string `json:"name"`
	// Address is HOST[:PORT].
	Address string `json:"address"`
	// Repositories are names and patterns (*, ?) of them; patterns need the
	// registry's catalog. A repository that a pattern with ! names is left out.
	Repositories []string `json:"repositories"`
	// Tags are patterns, ! leaves out; empty means all.
	Tags []string `json:"tags,omitempty"`
	// MostTags bounds the tags of one repository: the last by name count.
	MostTags int    `json:"mostTags"`
	Platform string `json:"platform,omitempty"`
	// Every is how long after one listing the next begins.
	Every time.Duration `json:"every"`
	// Budget is how many images are read within one hour.
	Budget   int    `json:"budget"`
	Username string `json:"username,omitempty"`
	CA       string `json:"ca,omitempty"` // PEM

	Created time.Time `json:"-"`
	Due     time.Time `json:"-"` // when it is listed next
	Listed  time.Time `json:"-"` // when it was last, whole
	Error   string    `json:"-"` // of the last listing
	Secret  []byte    `json:"-"` // encrypted
}

// RegistryTarget is one tag of a repository, or, with Tag "", what went wrong
// with the repository.
type RegistryTarget struct {
	Registry   string    `json:"registry"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	Manifest   string    `json:"manifest,omitempty"` // digest that was read last
	Image      string    `json:"image,omitempty"`    // config digest
	Pending    bool      `json:"pending"`            // waits to be read
	Priority   int       `json:"priority"`
	Due        time.Time `json:"-"`
	Tried      time.Time `json:"tried,omitzero"`
	Scanned    time.Time `json:"scanned,omitzero"`
	Failures   int       `json:"failures,omitempty"`
	Error      string    `json:"error,omitempty"`
}

// The priorities of targets, the least first.
const (
	PriorityNormal  = 0
	PriorityPushed  = 1
	PriorityRunning = 2
)

func scanRegistry(row scanner) (r Registry, err error) {
	var body []byte
	var created, due, listed int64
	if err := row.Scan(&body, &r.Secret, &created, &due, &listed, &r.Error); err != nil {
		return r, err
	}
	secret, text := r.Secret, r.Error
	err = json.Unmarshal(body, &r)
	r.Secret, r.Error = secret, text
	r.Created, r.Due, r.Listed = fromNanos(created), fromNanos(due), fromNanos(listed)
	return r, err
}

const registryColumns = "body, secret, created, due, listed, error"

// Registries lists all by name.
func (s *Store) Registries(ctx context.Context) ([]Registry, error) {
	return list(ctx, s, "list registries", scanRegistry, "SELECT "+registryColumns+" FROM registries ORDER BY name")
}

// Registry returns one, or ErrNotFound.
func (s *Store) Registry(ctx context.Context, name string) (Registry, error) {
	return one(ctx, s, fmt.Sprintf("registry %q", name), scanRegistry, "SELECT "+registryColumns+" FROM registries WHERE name = $1", name)
}

// PutRegistry adds a registry or changes it; it is listed at once.
func (s *Store) PutRegistry(ctx context.Context, r Registry, by Actor) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.tx(ctx, fmt.Sprintf("registry %q", r.Name), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO registries (name, body, secret, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET body = excluded.body, secret = excluded.secret, due = 0, error = ''`, r.Name, body, r.Secret, nanos(s.now()))
		if err != nil {
			return err
		}
		// What failed may be right now.
		if _, err := tx.ExecContext(ctx, "UPDATE targets SET due = 0 WHERE registry = $1", r.Name); err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "registry.put", r.Name, fmt.Sprintf("%s, repositories %s", r.Address, strings.Join(r.Repositories, " ")))
	})
}

// DeleteRegistry forgets a registry; reports of its images stay.
func (s *Store) DeleteRegistry(ctx context.Context, name string, by Actor) error {
	return s.tx(ctx, fmt.Sprintf("registry %q", name), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM registries WHERE name = $1", name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("registry %q: %w", name, ErrNotFound)
		}
		return s.audit(ctx, tx, by, "registry.delete", name, "")
	})
}

// ListRegistryAt sets when a registry is listed next.
func (s *Store) ListRegistryAt(ctx context.Context, name string, due time.Time) error {
	_, err := s.exec(ctx, "registry", "UPDATE registries SET due = $1 WHERE name = $2", nanos(due), name)
	return err
}

// RegistryListed notes the end of a listing: problem is "" when all went well.
// The next one begins when due comes.
func (s *Store) RegistryListed(ctx context.Context, name string, due time.Time, problem string) error {
	_, err := s.exec(ctx, "registry", "UPDATE registries SET due = $1, error = $2, listed = CASE WHEN $2 = '' THEN $3 ELSE listed END WHERE name = $4", nanos(due), problem, nanos(s.now()), name)
	return err
}

// WantTarget notes a tag that shall be read: with priority, from now on. One
// that waits already keeps its place, but may get a higher priority.
func (s *Store) WantTarget(ctx context.Context, t RegistryTarget) error {
	_, err := s.exec(ctx, "registry target", `INSERT INTO targets (registry, repository, tag, pending, priority) VALUES ($1, $2, $3, 1, $4)
		ON CONFLICT (registry, repository, tag) DO UPDATE SET pending = 1, priority = CASE WHEN pending = 1 AND priority > $4 THEN priority ELSE $4 END,
			due = CASE WHEN $4 = 1 THEN 0 ELSE due END`, t.Registry, t.Repository, t.Tag, t.Priority)
	return err
}

// ForgetTargets forgets a repository's tags but for those that there are.
func (s *Store) ForgetTargets(ctx context.Context, registry, repository string, keep []string) error {
	kept, err := json.Marshal(append(keep, ""))
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, "registry targets", "DELETE FROM targets WHERE registry = $1 AND repository = $2 AND tag NOT IN (SELECT value FROM json_each($3))", registry, repository, string(kept))
	return err
}

// ReadTarget notes what came of reading a target. With Error "" it is done;
// else it is tried again when Due comes.
func (s *Store) ReadTarget(ctx context.Context, t RegistryTarget) error {
	now := nanos(s.now())
	if t.Error != "" {
		_, err := s.exec(ctx, "registry target", `INSERT INTO targets (registry, repository, tag, pending, tried, failures, error, due) VALUES ($1, $2, $3, CASE WHEN $3 = '' THEN 0 ELSE 1 END, $4, 1, $5, $6)
			ON CONFLICT (registry, repository, tag) DO UPDATE SET tried = $4, failures = failures + 1, error = $5, due = $6`, t.Registry, t.Repository, t.Tag, now, t.Error, nanos(t.Due))
		return err
	}
	if t.Tag == "" { // the repository is all right again
		_, err := s.exec(ctx, "registry target", "DELETE FROM targets WHERE registry = $1 AND repository = $2 AND tag = ''", t.Registry, t.Repository)
		return err
	}
	_, err := s.exec(ctx, "registry target", `UPDATE targets SET manifest = $4, image = $5, pending = 0, priority = 0, tried = $6, scanned = $6, failures = 0, error = '', due = 0
		WHERE registry = $1 AND repository = $2 AND tag = $3`, t.Registry, t.Repository, t.Tag, t.Manifest, t.Image, now)
	return err
}

const targetColumns = "registry, repository, tag, manifest, image, pending, priority, due, tried, scanned, failures, error"

func scanTarget(row scanner) (t RegistryTarget, err error) {
	var due, tried, scanned int64
	err = row.Scan(&t.Registry, &t.Repository, &t.Tag, &t.Manifest, &t.Image, &t.Pending, &t.Priority, &due, &tried, &scanned, &t.Failures, &t.Error)
	t.Due, t.Tried, t.Scanned = fromNanos(due), fromNanos(tried), fromNanos(scanned)
	return t, err
}

// RegistryTargets lists what is known of a registry's tags: problems first,
// then what waits, by name.
func (s *Store) RegistryTargets(ctx context.Context, name string, n, offset int) ([]RegistryTarget, error) {
	return list(ctx, s, "list targets", scanTarget, fmt.Sprintf("SELECT "+targetColumns+` FROM targets WHERE registry = $1
		ORDER BY error <> '' DESC, pending DESC, priority DESC, repository, tag LIMIT %d OFFSET %d`, limit(n), max(0, offset)), name)
}

// RegistryCount says how a registry stands.
type RegistryCount struct {
	Tags    int `json:"tags"`
	Pending int `json:"pending"`
	Failed  int `json:"failed"`
	// Recent counts those that were read, or tried to be, within the last hour.
	Recent int `json:"recent"`
}

// CountTargets counts a registry's tags.
func (s *Store) CountTargets(ctx context.Context, name string) (RegistryCount, error) {
	return one(ctx, s, "count targets", func(row scanner) (c RegistryCount, err error) {
		err = row.Scan(&c.Tags, &c.Pending, &c.Failed, &c.Recent)
		return c, err
	}, `SELECT COUNT(CASE WHEN tag <> '' THEN 1 END), COUNT(CASE WHEN pending = 1 THEN 1 END), COUNT(CASE WHEN error <> '' THEN 1 END),
		COUNT(CASE WHEN tag <> '' AND tried > $2 THEN 1 END) FROM targets WHERE registry = $1`, name, nanos(s.now().Add(-time.Hour)))
}

// NextTarget is what shall be read next of a registry: what runs, then what was
// pushed, then what waits longest. ErrNotFound: nothing now.
func (s *Store) NextTarget(ctx context.Context, name string) (RegistryTarget, error) {
	return one(ctx, s, "next target", scanTarget, "SELECT "+targetColumns+` FROM targets WHERE registry = $1 AND pending = 1 AND due <= $2
		ORDER BY priority DESC, due, repository, tag LIMIT 1`, name, nanos(s.now()))
}

// Target returns one tag, or ErrNotFound.
func (s *Store) Target(ctx context.Context, registry, repository, tag string) (RegistryTarget, error) {
	return one(ctx, s, "target", scanTarget, "SELECT "+targetColumns+" FROM targets WHERE registry = $1 AND repository = $2 AND tag = $3", registry, repository, tag)
}

// RunningReferences are the names of every image that runs somewhere.
func (s *Store) RunningReferences(ctx context.Context) (map[string]bool, error) {
	all, err := list(ctx, s, "running images", func(row scanner) (names []string, err error) {
		var refs string
		if err := row.Scan(&refs); err != nil {
			return nil, err
		}
		return names, json.Unmarshal([]byte(refs), &names)
	}, "SELECT refs FROM images WHERE digest IN (SELECT image FROM containers)")
	out := map[string]bool{}
	for _, names := range all {
		for _, n := range names {
			out[n] = true
		}
	}
	return out, err
}

// AddReference adds a name to an image; known is false when there is no report
// of it yet.
func (s *Store) AddReference(ctx context.Context, digest, reference string) (known bool, err error) {
	err = s.tx(ctx, "name of image", func(tx *sql.Tx) error {
		var text, origin string
		err := tx.QueryRowContext(ctx, "SELECT refs, origin FROM images WHERE digest = $1", digest).Scan(&text, &origin)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		known = origin == "" // a pipeline's word is replaced by what the server reads
		var refs []string
		if err := json.Unmarshal([]byte(text), &refs); err != nil || slices.Contains(refs, reference) {
			return err
		}
		body, err := json.Marshal(append(refs, reference))
		if err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE images SET refs = $1 WHERE digest = $2", string(body), digest)
		}
		return err
	})
	return known, err
}
