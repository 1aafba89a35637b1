package server

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// bundleLife is how long after its signature an agent accepts a bundle. It
// bounds acceptance, not force: see api.PolicyBundle.
const bundleLife = 7 * 24 * time.Hour

// maxBundle bounds all policies together, for a bundle travels in one message
// of the bus.
const maxBundle = 4 << 20

// sourceName stands in the errors of policies that come over the network.
const sourceName = "policy"

// Check implements web.Policies: exactly one right policy.
func (s *Server) Check(source string) (name string, problems []web.Problem) {
	policies, err := s.parse([]byte(source))
	if err != nil {
		return "", problemsOf(err)
	}
	if len(policies) != 1 {
		return "", []web.Problem{{Message: fmt.Sprintf("this holds %d policies: store them one by one", len(policies))}}
	}
	return policies[0].Name, nil
}

// parse reads policies and checks that the detections they name exist.
func (s *Server) parse(source []byte) ([]*policy.Policy, error) {
	policies, err := policy.Parse(sourceName, source)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		if err := p.CheckDetections(s.detections); err != nil {
			return nil, err
		}
	}
	return policies, nil
}

func problemsOf(err error) []web.Problem {
	var many document.Errors
	if !errors.As(err, &many) {
		return []web.Problem{{Message: err.Error()}}
	}
	var out []web.Problem
	for _, e := range many {
		text := e.Message
		if e.Path != "" {
			text = e.Path + ": " + text
		}
		out = append(out, web.Problem{Line: e.Line, Column: e.Column, Message: text})
	}
	return out
}

// Put implements web.Policies.
func (s *Server) Put(ctx context.Context, source string, base int, by store.Actor) (store.Policy, error) {
	name, problems := s.Check(source)
	if len(problems) > 0 {
		return store.Policy{}, fmt.Errorf("policy line %d: %s", problems[0].Line, problems[0].Message)
	}
	p, err := s.store.PutPolicy(ctx, name, source, base, by)
	if err == nil {
		s.policiesChanged(ctx)
	}
	return p, err
}

// Delete implements web.Policies: it takes a policy out of force.
func (s *Server) Delete(ctx context.Context, name string, by store.Actor) (store.Policy, error) {
	p, err := s.store.DeletePolicy(ctx, name, by)
	if err == nil {
		s.policiesChanged(ctx)
	}
	return p, err
}

// Apply puts every policy of a YAML file in force, as one change: all or none.
// Each is stored as a document of its own. The error of a wrong file is a
// document.Errors.
func (s *Server) Apply(ctx context.Context, source []byte, by store.Actor) ([]store.Policy, error) {
	if _, err := s.parse(source); err != nil {
		return nil, err
	}
	var files []api.PolicyFile
	for _, text := range documents(string(source)) {
		policies, err := policy.Parse(sourceName, []byte(text))
		if err != nil || len(policies) != 1 {
			return nil, fmt.Errorf("the file cannot be split into its policies: store them one by one: %w", errors.Join(err))
		}
		files = append(files, api.PolicyFile{Name: policies[0].Name, Source: text})
	}
	out, err := s.store.PutPolicies(ctx, files, by)
	if err == nil {
		s.policiesChanged(ctx)
	}
	return out, err
}

// documents splits YAML at its document marks; parts of comments alone are left out.
func documents(source string) []string {
	var out []string
	var b strings.Builder
	content := false
	flush := func() {
		if content {
			out = append(out, strings.TrimSuffix(b.String(), "\n")+"\n")
		}
		b.Reset()
		content = false
	}
	for _, line := range strings.Split(source, "\n") {
		if strings.TrimRight(line, " \t\r") == "---" {
			flush()
			continue
		}
		trimmed := strings.TrimSpace(line)
		content = content || trimmed != "" && !strings.HasPrefix(trimmed, "#")
		b.WriteString(line)
		b.WriteByte('\n')
	}
	flush()
	return out
}

// firstPolicies starts with generation 1: no agent may take "nothing was ever
// decided" for a generation.
func (s *Server) firstPolicies(ctx context.Context) error {
	generation, err := s.store.Generation(ctx)
	if err != nil || generation > 0 {
		return err
	}
	by := store.Actor{Name: "breakwater"}
	if len(s.o.Policies) == 0 {
		return s.store.NextGeneration(ctx, "first start, without a policy", by)
	}
	_, err = s.Apply(ctx, s.o.Policies, by)
	return err
}

// PolicyFor is the bundle of one agent, signed now.
func (s *Server) PolicyFor(ctx context.Context, agent string) (api.Signed, error) {
	a, err := s.store.Agent(ctx, agent)
	if err != nil {
		return api.Signed{}, err
	}
	if !a.Revoked.IsZero() {
		return api.Signed{}, fmt.Errorf("agent %q was revoked: enrol it again", agent)
	}
	// The generation is read first: policies that change between are then sent
	// under a number that is too small, and again under the right one.
	b := api.PolicyBundle{Version: api.Version, Target: agent, Stage: a.Stage, Issued: s.o.Now().UTC()}
	b.Expires = b.Issued.Add(bundleLife)
	if b.Generation, err = s.store.Generation(ctx); err != nil {
		return api.Signed{}, err
	}
	policies, err := s.store.Policies(ctx)
	if err != nil {
		return api.Signed{}, err
	}
	for _, p := range policies {
		b.Policies = append(b.Policies, p.File())
	}
	excepted, err := s.store.Exceptions(ctx)
	if err != nil {
		return api.Signed{}, err
	}
	for _, x := range excepted {
		if b.Issued.Before(x.Ends) {
			b.Exceptions = append(b.Exceptions, x.Exception)
		}
	}
	promoted, err := s.store.Promotions(ctx)
	if err != nil {
		return api.Signed{}, err
	}
	for _, p := range promoted {
		if p.Ends.IsZero() || b.Issued.Before(p.Ends) {
			b.Promotions = append(b.Promotions, p.Promotion)
		}
	}
	b.VEX, err = s.store.VEX(ctx)
	if err != nil {
		return api.Signed{}, err
	}
	return s.sign(b)
}

func (s *Server) sign(b api.PolicyBundle) (api.Signed, error) {
	payload, err := json.Marshal(b)
	if err != nil {
		return api.Signed{}, err
	}
	if len(payload) > maxBundle {
		return api.Signed{}, fmt.Errorf("all policies and VEX documents together have %d bytes, more than %d: remove some", len(payload), maxBundle)
	}
	signature := ed25519.Sign(s.signing, append([]byte(api.PolicySignatureContext), payload...))
	return api.Signed{Payload: payload, KeyID: keyID(s.PolicyKey()), Signature: signature}, nil
}

// PolicyKey verifies policy bundles.
func (s *Server) PolicyKey() ed25519.PublicKey { return s.signing.Public().(ed25519.PublicKey) }

// policiesChanged tells agents, and has every image judged again.
func (s *Server) policiesChanged(ctx context.Context) {
	if s.bus == nil { // first start: nobody listens yet
		return
	}
	s.notifyPolicy(ctx)
	select {
	case s.rejudge <- struct{}{}:
	default: // it will be done already
	}
}

// notifyPolicy tells every agent that there is a newer bundle. One that does
// not hear it asks by itself when it connects.
func (s *Server) notifyPolicy(ctx context.Context) {
	agents, err := s.store.Agents(ctx)
	if err != nil {
		s.o.Log.Error("agents not told of the new policies", "error", err)
	}
	for _, a := range agents {
		if a.Revoked.IsZero() {
			if err := s.bus.NotifyPolicy(a.ID); err != nil {
				s.o.Log.Warn("agent not told of the new policies", "agent", a.ID, "error", err)
			}
		}
	}
}

// judgeOnChange judges every image at the start, for policies may have changed
// just before the last end, and after each change.
func (s *Server) judgeOnChange(ctx context.Context) error {
	if n, err := s.store.IndexOld(ctx); err != nil {
		s.o.Log.Error("images that an older program stored cannot all be asked for", "error", err)
	} else if n > 0 {
		s.o.Log.Info("images that an older program stored can be asked for now", "images", n)
	}
	for {
		if err := s.judgeEverything(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Error("images not judged again", "error", err)
		}
		select {
		case <-s.rejudge:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// policySet compiles the policies in force. A policy that an older program
// accepted and this one does not is an error, not left out.
func (s *Server) policySet(ctx context.Context) (*policy.Set, error) {
	generation, err := s.store.Generation(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := s.store.Policies(ctx)
	if err != nil {
		return nil, err
	}
	var all []*policy.Policy
	for _, p := range stored {
		parsed, err := policy.Parse(p.Name, []byte(p.Source))
		if err != nil {
			return nil, fmt.Errorf("policy %q version %d: %w", p.Name, p.Version, err)
		}
		all = append(all, parsed...)
	}
	return policy.NewSet(generation, all)
}
