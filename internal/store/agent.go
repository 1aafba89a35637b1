package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// Agent is one enrolled agent and what it last said about its host.
type Agent struct {
	ID       string            `json:"id"`
	Host     string            `json:"host"`
	NKey     string            `json:"nkey"`
	Stage    string            `json:"stage,omitempty"`
	Enrolled time.Time         `json:"enrolled"`
	Revoked  time.Time         `json:"revoked,omitzero"`
	Seen     time.Time         `json:"seen,omitzero"`    // when Status came, by this server's clock
	Status   *event.HostStatus `json:"status,omitempty"` // nil: never heard of
}

// AddAgent enrols an agent. An agent with the same id or key is an error.
func (s *Store) AddAgent(ctx context.Context, a Agent, by Actor) error {
	return s.tx(ctx, "enrol agent", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO agents (id, host, nkey, stage, enrolled) VALUES ($1, $2, $3, $4, $5)",
			a.ID, a.Host, a.NKey, a.Stage, nanos(s.now()))
		if err != nil {
			return fmt.Errorf("agent %q with key %q: %w", a.ID, a.NKey, err)
		}
		return s.audit(ctx, tx, by, "agent.enrol", a.ID, "host "+a.Host)
	})
}

// RevokeAgent marks an agent as no longer trusted.
func (s *Store) RevokeAgent(ctx context.Context, id string, by Actor) error {
	return s.tx(ctx, "revoke agent", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE agents SET revoked = $1 WHERE id = $2 AND revoked = 0", nanos(s.now()), id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("agent %q that is not revoked: %w", id, ErrNotFound)
		}
		return s.audit(ctx, tx, by, "agent.revoke", id, "")
	})
}

// SetStage labels an agent's host; "" takes the label off. It raises the policy
// generation, for policies may follow stages. An agent that is unknown or
// revoked is ErrNotFound; the stage that it has already changes nothing.
func (s *Store) SetStage(ctx context.Context, id, stage string, by Actor) error {
	return s.tx(ctx, "stage of agent", func(tx *sql.Tx) error {
		var before string
		err := tx.QueryRowContext(ctx, "SELECT stage FROM agents WHERE id = $1 AND revoked = 0", id).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("agent %q that is not revoked: %w", id, ErrNotFound)
		}
		if err != nil || before == stage {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE agents SET stage = $1 WHERE id = $2", stage, id); err != nil {
			return err
		}
		if err := s.nextGeneration(ctx, tx, by.Name, fmt.Sprintf("stage of agent %s", id)); err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "agent.stage", id, fmt.Sprintf("%q instead of %q", stage, before))
	})
}

const agentColumns = "id, host, nkey, stage, enrolled, revoked, seen, status"

func scanAgent(row scanner) (Agent, error) {
	var a Agent
	var enrolled, revoked, seen int64
	var status []byte
	if err := row.Scan(&a.ID, &a.Host, &a.NKey, &a.Stage, &enrolled, &revoked, &seen, &status); err != nil {
		return a, err
	}
	a.Enrolled, a.Revoked, a.Seen = fromNanos(enrolled), fromNanos(revoked), fromNanos(seen)
	if status == nil {
		return a, nil
	}
	return a, json.Unmarshal(status, &a.Status)
}

// Agents lists all agents by host, the revoked ones too.
func (s *Store) Agents(ctx context.Context) ([]Agent, error) {
	return list(ctx, s, "list agents", scanAgent, "SELECT "+agentColumns+" FROM agents ORDER BY host, id")
}

// Agent returns one agent, or ErrNotFound.
func (s *Store) Agent(ctx context.Context, id string) (Agent, error) {
	return one(ctx, s, fmt.Sprintf("agent %q", id), scanAgent, "SELECT "+agentColumns+" FROM agents WHERE id = $1", id)
}

// AgentByKey returns the agent with a public nkey, or ErrNotFound.
func (s *Store) AgentByKey(ctx context.Context, nkey string) (Agent, error) {
	return one(ctx, s, "agent by key", scanAgent, "SELECT "+agentColumns+" FROM agents WHERE nkey = $1", nkey)
}

// PutStatus keeps what an agent says about its host now. An unknown agent is
// ErrNotFound.
func (s *Store) PutStatus(ctx context.Context, agent string, st event.HostStatus) error {
	st.Agent = agent
	body, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("status of agent %q: %w", agent, err)
	}
	return s.tx(ctx, fmt.Sprintf("status of agent %q", agent), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE agents SET status = $1, seen = $2, host = $3 WHERE id = $4", body, nanos(s.now()), st.Host, agent)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return ErrNotFound
		}
		return putContainers(ctx, tx, agent, st.Containers)
	})
}

// putContainers replaces the agent's containers by those of its last status.
func putContainers(ctx context.Context, tx *sql.Tx, agent string, all []event.Guarded) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM containers WHERE agent = $1", agent); err != nil {
		return err
	}
	for _, g := range all {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO containers (agent, id, name, image, mode, generation) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (agent, id) DO NOTHING`,
			agent, g.Container.ID, g.Container.Name, g.Container.Image.Digest, g.Mode, int64(g.Generation))
		if err != nil {
			return err
		}
	}
	return nil
}

// Placement is a container made of some image.
type Placement struct {
	Agent      string `json:"agent"`
	Host       string `json:"host"`
	Container  string `json:"container"`
	Name       string `json:"name,omitempty"`
	Mode       string `json:"mode"`
	Generation uint64 `json:"generation"`
}

// Running lists where an image runs.
func (s *Store) Running(ctx context.Context, digest string) ([]Placement, error) {
	return list(ctx, s, "list containers", func(row scanner) (p Placement, err error) {
		err = row.Scan(&p.Agent, &p.Host, &p.Container, &p.Name, &p.Mode, &p.Generation)
		return p, err
	}, `SELECT c.agent, a.host, c.id, c.name, c.mode, c.generation FROM containers c JOIN agents a ON a.id = c.agent
		WHERE c.image = $1 ORDER BY a.host, c.name, c.id LIMIT 500`, digest)
}

// AddEnrolment keeps the hash of an enrolment token that may be used so many
// times until it expires.
func (s *Store) AddEnrolment(ctx context.Context, hash []byte, expires time.Time, uses int, by Actor) error {
	return s.tx(ctx, "add enrolment token", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO enrolments (hash, author, created, expires, uses) VALUES ($1, $2, $3, $4, $5)",
			hash, by.Name, nanos(s.now()), nanos(expires), uses)
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, by, "enrolment.create", "", fmt.Sprintf("%d uses until %s", uses, expires.UTC().Format(time.RFC3339)))
	})
}

// UseEnrolment takes one use from a token; ErrNotFound when it is unknown,
// used up or expired.
func (s *Store) UseEnrolment(ctx context.Context, hash []byte) error {
	n, err := s.exec(ctx, "use enrolment token", "UPDATE enrolments SET uses = uses - 1 WHERE hash = $1 AND uses > 0 AND expires > $2", hash, nanos(s.now()))
	if err == nil && n == 0 {
		err = fmt.Errorf("enrolment token: %w", ErrNotFound)
	}
	return err
}
