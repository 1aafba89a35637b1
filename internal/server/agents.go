package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/auth"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// errEnrolment refuses an enrolment; what it says may be told to a stranger.
var errEnrolment = errors.New("enrolment token is unknown, used up or expired: make a new one on the server")

// maxHost bounds a host's name, in bytes (RFC 1035: 255 octets on the wire).
const maxHost = 253

// maxEnrolmentLife is how long a token may wait for its agents.
const maxEnrolmentLife = 720 * time.Hour

// NewEnrolment makes a token that enrols so many agents until its life is
// over; it is kept nowhere.
func (s *Server) NewEnrolment(ctx context.Context, uses int, life time.Duration, by store.Actor) (string, error) {
	if uses < 1 || uses > 10_000 || life <= 0 || life > maxEnrolmentLife {
		return "", fmt.Errorf("enrolment token for %d agents and %s: use 1 to 10000 agents and at most 720h", uses, life)
	}
	value, hash := auth.NewSecret()
	return value, s.store.AddEnrolment(ctx, hash, s.o.Now().Add(life), uses, by)
}

// Enrol admits a new agent that holds a token.
func (s *Server) Enrol(ctx context.Context, r api.EnrolRequest, by store.Actor) (api.EnrolResponse, error) {
	if err := checkEnrol(r.Host, r.NKey); err != nil {
		return api.EnrolResponse{}, err
	}
	err := s.store.UseEnrolment(ctx, auth.HashSecret(r.Token))
	if errors.Is(err, store.ErrNotFound) {
		return api.EnrolResponse{}, errors.Join(errEnrolment, s.store.Audit(ctx, by, "enrolment.denied", r.Host, ""))
	}
	if err != nil {
		return api.EnrolResponse{}, err
	}
	return s.admit(ctx, r.Host, r.NKey, by)
}

// EnrolLocal admits the agent that runs in the same program. Coming again with
// the same key it gets the same id.
func (s *Server) EnrolLocal(ctx context.Context, host, nkey string) (api.EnrolResponse, error) {
	if err := checkEnrol(host, nkey); err != nil {
		return api.EnrolResponse{}, err
	}
	return s.admit(ctx, host, nkey, store.Actor{Name: "breakwater"})
}

// badEnrolment is an enrolment request that can never be right.
type badEnrolment struct{ error }

func checkEnrol(host, nkey string) error {
	if host == "" || len(host) > maxHost || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return badEnrolment{fmt.Errorf("host %q: use 1 to %d visible ASCII characters", host, maxHost)}
	}
	if !nkeys.IsValidPublicUserKey(nkey) {
		return badEnrolment{errors.New("nkey is no public user key")}
	}
	return nil
}

func (s *Server) admit(ctx context.Context, host, nkey string, by store.Actor) (api.EnrolResponse, error) {
	known, err := s.store.AgentByKey(ctx, nkey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return api.EnrolResponse{}, err
	}
	if err == nil && !known.Revoked.IsZero() {
		return api.EnrolResponse{}, badEnrolment{fmt.Errorf("agent %q with this key was revoked: remove its key on the host, so that it makes a new one", known.ID)}
	}
	id := known.ID
	if id == "" {
		raw := make([]byte, 8)
		_, _ = rand.Read(raw) // never fails, by crypto/rand's contract
		id = "a" + hex.EncodeToString(raw)
		if err := s.store.AddAgent(ctx, store.Agent{ID: id, Host: host, NKey: nkey}, by); err != nil {
			return api.EnrolResponse{}, err
		}
	}
	if err := s.bus.AddAgent(id, nkey); err != nil {
		return api.EnrolResponse{}, err
	}
	return api.EnrolResponse{Agent: id, BusURL: s.bus.URL(), BusCA: s.tls.pem, PolicyKey: s.PolicyKey(), IntelligenceKey: s.intelKey}, nil
}

// stages are those that a policy's mode knows; "" takes the label off.
var stages = [...]string{"", "development", "staging", "production"}

// SetStage labels an agent's host. Its policies follow at once: the agent is
// told, as of a changed policy.
func (s *Server) SetStage(ctx context.Context, agent, stage string, by store.Actor) error {
	if !slices.Contains(stages[:], stage) {
		return badStage(stage)
	}
	if err := s.store.SetStage(ctx, agent, stage, by); err != nil {
		return err
	}
	s.notifyPolicy(ctx)
	return nil
}

// badStage is a stage that policies do not know.
type badStage string

func (b badStage) Error() string {
	return fmt.Sprintf("stage %q: want development, staging or production, or none of them", string(b))
}

// Revoke ends an agent's connection and trust.
func (s *Server) Revoke(ctx context.Context, agent string, by store.Actor) error {
	if err := s.store.RevokeAgent(ctx, agent, by); err != nil {
		return err
	}
	s.bus.RemoveAgent(agent)
	return nil
}
