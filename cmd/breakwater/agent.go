package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// fileEnrolment is where an agent keeps who it is, below its data folder.
const fileEnrolment = "keys/enrolment.json"

type agentCommand struct {
	server clientFlags
	host   hostFlags
	gate   gateOffer
}

func newAgentCommand(env *environment) *cobra.Command {
	var a agentCommand
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Guard this host for a server elsewhere",
		Long: `Runs the agent alone, in the foreground. The first time it joins a server:

  breakwater agent --server https://NAME:8443 --fingerprint SHA256 --token-file FILE

with a token of ` + "`breakwater agents token`" + ` and the fingerprint that the server
prints. From then on it needs none of them, and guards this host with the last
policy also while the server is away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.gate.validate(); err != nil {
				return err
			}
			return kept(a.run(cmd.Context(), env))
		},
	}
	a.server.add(cmd)
	a.host.add(cmd)
	a.gate.add(cmd)
	return cmd
}

// kept keeps an exit code that was chosen already.
func kept(err error) error {
	var chosen *exitError
	if errors.As(err, &chosen) {
		return err
	}
	return failed(err)
}

func (a *agentCommand) run(ctx context.Context, env *environment) error {
	if os.Geteuid() != 0 {
		return errors.New("guarding a host needs root: run it with sudo")
	}
	data, err := makeDataDir(env)
	if err != nil {
		return err
	}
	host, err := a.host.host()
	if err != nil {
		return err
	}
	seed, public, err := agentSeed(data)
	if err != nil {
		return err
	}
	enrolled, err := a.enrolment(ctx, data, api.EnrolRequest{Host: host, NKey: public})
	if err != nil {
		return err
	}
	if err := trustPolicyKey(data, enrolled.PolicyKey); err != nil {
		return err
	}
	if enrolled.IntelligenceKey != nil {
		if err := intel.Trust(data, enrolled.IntelligenceKey); err != nil {
			return err
		}
	}
	a.gate.logs = &heldWriter{w: env.stderr}
	log := slog.New(slog.NewTextHandler(a.gate.logs, nil))
	h, err := openAgent(ctx, a.host, data, host, seed, enrolled, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return h.Run(ctx) })
	group.Go(func() error { rest(ctx); return nil })
	group.Go(func() error { supervised(ctx); return nil })
	group.Go(func() error {
		select {
		case <-h.Ready():
		case <-time.After(20 * time.Second): // a server or engine that is away; the heartbeat tells
		case <-ctx.Done():
			return nil
		}
		h.welcome(env, a.host.observe)
		if a.host.observe {
			a.gate.answer = "no"
		}
		return a.gate.offer(ctx, env, data, a.host.engines)
	})
	err = group.Wait()
	return errors.Join(err, h.close())
}

// enrolment is who this agent is: as kept, or else by joining a server now.
func (a *agentCommand) enrolment(ctx context.Context, data string, req api.EnrolRequest) (api.EnrolResponse, error) {
	path := filepath.Join(data, fileEnrolment)
	var enrolled api.EnrolResponse
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(raw, &enrolled); err != nil {
			return enrolled, fmt.Errorf("enrolment %s: %w: remove the file and enrol the agent again", path, err)
		}
		return enrolled, nil
	case !errors.Is(err, fs.ErrNotExist):
		return enrolled, fmt.Errorf("enrolment: %w", err)
	case a.server.server == "" || a.server.fingerprint == "" || a.server.tokenFile == "":
		return enrolled, usage("this agent has not joined a server yet: give --server, --fingerprint and --token-file; `breakwater agents token` on the server makes a token")
	}
	if enrolled, err = a.join(ctx, req); err != nil {
		return enrolled, err
	}
	if raw, err = json.Marshal(enrolled); err != nil {
		return enrolled, err
	}
	if err := durable.WriteFile(path, raw, 0o600); err != nil {
		return enrolled, fmt.Errorf("enrolment: %w", err)
	}
	return enrolled, nil
}

// join proves by the token that this agent was invited.
func (a *agentCommand) join(ctx context.Context, req api.EnrolRequest) (enrolled api.EnrolResponse, err error) {
	c, err := newClient(a.server.server, a.server.fingerprint)
	if err != nil {
		return enrolled, err
	}
	if req.Token, err = readToken(a.server.tokenFile); err != nil {
		return enrolled, err
	}
	if err := c.call(ctx, http.MethodPost, "/api/v1/agents/enrol", req, &enrolled); err != nil {
		return enrolled, fmt.Errorf("join: %w", err)
	}
	enrolled.BusURL, err = reachable(enrolled.BusURL, c.base.Hostname())
	return enrolled, err
}
