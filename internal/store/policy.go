package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/api"
)

// Policy is one version of one policy document.
type Policy struct {
	Name    string    `json:"name"`
	Version int       `json:"version"` // from 1
	Source  string    `json:"source"`  // YAML
	Author  string    `json:"author"`
	Time    time.Time `json:"time"`
	Deleted bool      `json:"deleted,omitempty"` // this version takes the policy out of force
}

// File is the policy as bundles carry it.
func (p Policy) File() api.PolicyFile {
	return api.PolicyFile{Name: p.Name, Version: p.Version, Source: p.Source}
}

const policyColumns = "name, version, source, author, time, deleted"

func scanPolicy(row scanner) (Policy, error) {
	var p Policy
	var at int64
	err := row.Scan(&p.Name, &p.Version, &p.Source, &p.Author, &at, &p.Deleted)
	p.Time = fromNanos(at)
	return p, err
}

const currentVersion = "version = (SELECT MAX(version) FROM policies v WHERE v.name = policies.name)"

// Policies lists the version in force of every policy, by name.
func (s *Store) Policies(ctx context.Context) ([]Policy, error) {
	return list(ctx, s, "list policies", scanPolicy, "SELECT "+policyColumns+" FROM policies WHERE deleted = 0 AND "+currentVersion+" ORDER BY name")
}

// Policy returns a version of a policy, the newest for version 0, or ErrNotFound.
func (s *Store) Policy(ctx context.Context, name string, version int) (Policy, error) {
	op := fmt.Sprintf("policy %q", name)
	if version > 0 {
		op = fmt.Sprintf("version %d of %s", version, op)
	}
	return one(ctx, s, op, scanPolicy, "SELECT "+policyColumns+" FROM policies WHERE name = $1 AND ($2 = 0 OR version = $2) ORDER BY version DESC LIMIT 1", name, version)
}

// PolicyVersions lists all versions of a policy, the newest first.
func (s *Store) PolicyVersions(ctx context.Context, name string) ([]Policy, error) {
	return list(ctx, s, fmt.Sprintf("versions of policy %q", name), scanPolicy, "SELECT "+policyColumns+" FROM policies WHERE name = $1 ORDER BY version DESC", name)
}

// PutPolicy adds the next version of a policy and starts a new generation.
// The source that is in force already changes nothing. When base is not
// negative the newest version must be base (0: the policy is new), else
// ErrConflict: somebody changed it meanwhile. The caller has validated source.
func (s *Store) PutPolicy(ctx context.Context, name, source string, base int, by Actor) (Policy, error) {
	return s.nextPolicy(ctx, Policy{Name: name, Source: source}, base, by)
}

// DeletePolicy takes a policy out of force; its versions stay.
func (s *Store) DeletePolicy(ctx context.Context, name string, by Actor) (Policy, error) {
	return s.nextPolicy(ctx, Policy{Name: name, Deleted: true}, -1, by)
}

// PutPolicies adds the next version of each of several policies as one change:
// all of them or none, in one generation. Sources that are in force already
// change nothing.
func (s *Store) PutPolicies(ctx context.Context, all []api.PolicyFile, by Actor) ([]Policy, error) {
	var out []Policy
	err := s.tx(ctx, "put policies", func(tx *sql.Tx) error {
		out = nil
		changed := 0
		for _, f := range all {
			p, isNew, err := s.addVersion(ctx, tx, Policy{Name: f.Name, Source: f.Source}, -1, by)
			if err != nil {
				return err
			}
			if isNew {
				changed++
			}
			out = append(out, p)
		}
		if changed == 0 {
			return nil
		}
		return s.nextGeneration(ctx, tx, by.Name, fmt.Sprintf("%d policies put", changed))
	})
	return out, err
}

func (s *Store) nextPolicy(ctx context.Context, next Policy, base int, by Actor) (Policy, error) {
	var out Policy
	err := s.tx(ctx, fmt.Sprintf("policy %q", next.Name), func(tx *sql.Tx) error {
		p, isNew, err := s.addVersion(ctx, tx, next, base, by)
		out = p
		if err != nil || !isNew {
			return err
		}
		return s.nextGeneration(ctx, tx, by.Name, fmt.Sprintf("policy %s version %d", p.Name, p.Version))
	})
	return out, err
}

// addVersion adds a version with its audit line, unless the source is in force
// already. The caller starts the generation.
func (s *Store) addVersion(ctx context.Context, tx *sql.Tx, next Policy, base int, by Actor) (p Policy, isNew bool, err error) {
	old, err := scanPolicy(tx.QueryRowContext(ctx, "SELECT "+policyColumns+" FROM policies WHERE name = $1 ORDER BY version DESC LIMIT 1", next.Name))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Policy{}, false, err
	}
	inForce := old.Version > 0 && !old.Deleted
	switch {
	case base >= 0 && base != old.Version:
		return Policy{}, false, fmt.Errorf("%w: version %d was edited, version %d is the newest", ErrConflict, base, old.Version)
	case next.Deleted && !inForce:
		return Policy{}, false, ErrNotFound
	case inForce && !next.Deleted && old.Source == next.Source:
		return old, false, nil
	}
	next.Version, next.Author, next.Time = old.Version+1, by.Name, s.now().UTC()
	return next, true, s.insertPolicy(ctx, tx, next, by)
}

func (s *Store) insertPolicy(ctx context.Context, tx *sql.Tx, p Policy, by Actor) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO policies ("+policyColumns+") VALUES ($1, $2, $3, $4, $5, $6)",
		p.Name, p.Version, p.Source, p.Author, nanos(p.Time), p.Deleted)
	if err != nil {
		return err
	}
	action := "policy.put"
	if p.Deleted {
		action = "policy.delete"
	}
	return s.audit(ctx, tx, by, action, p.Name, fmt.Sprintf("version %d", p.Version))
}

func (s *Store) nextGeneration(ctx context.Context, tx *sql.Tx, author, reason string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO generations (time, author, reason) VALUES ($1, $2, $3)", nanos(s.now()), author, reason)
	return err
}

// Generation is the number of the newest set of policies, from 1; 0 before the
// first policy. It rises with every change and never falls.
func (s *Store) Generation(ctx context.Context) (g uint64, err error) {
	err = s.wrap("generation", s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(generation), 0) FROM generations").Scan(&g))
	return g, err
}

// GenerationTime is when a generation began, or ErrNotFound. The versions of
// policies in it are the newest ones that are not later.
func (s *Store) GenerationTime(ctx context.Context, generation uint64) (time.Time, error) {
	return one(ctx, s, fmt.Sprintf("generation %d", generation), func(row scanner) (time.Time, error) {
		var at int64
		err := row.Scan(&at)
		return fromNanos(at), err
	}, "SELECT time FROM generations WHERE generation = $1", int64(generation))
}

// maxLead bounds how far RaiseGeneration goes at once: an agent must not be
// able to use up the numbers.
const maxLead = 1 << 20

// RaiseGeneration makes the generation larger than seen: a server that was
// restored from a backup meets agents that hold a newer bundle and would
// refuse its own. It returns whether it changed anything.
func (s *Store) RaiseGeneration(ctx context.Context, seen uint64, by Actor) (raised bool, err error) {
	err = s.tx(ctx, "raise generation", func(tx *sql.Tx) error {
		var g uint64
		if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(generation), 0) FROM generations").Scan(&g); err != nil {
			return err
		}
		if seen <= g || seen-g > maxLead {
			return nil
		}
		raised = true
		_, err := tx.ExecContext(ctx, "INSERT INTO generations (generation, time, author, reason) VALUES ($1, $2, $3, $4)",
			int64(seen+1), nanos(s.now()), by.Name, fmt.Sprintf("an agent holds generation %d", seen))
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "generation.raise", fmt.Sprint(seen+1), fmt.Sprintf("an agent holds generation %d", seen))
	})
	return raised, err
}

// NextGeneration starts a generation without a change of policies.
func (s *Store) NextGeneration(ctx context.Context, reason string, by Actor) error {
	return s.tx(ctx, "next generation", func(tx *sql.Tx) error { return s.nextGeneration(ctx, tx, by.Name, reason) })
}
