package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/gate"
	"github.com/breakwater-sec/breakwater/internal/gate/install"
)

// gateTarget is the engine that install, uninstall and status are about.
type gateTarget struct{ engine, config, socket string }

func (g *gateTarget) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&g.engine, "engine", engineSocket, "the engine's `socket`")
	cmd.Flags().StringVar(&g.socket, "plugin-socket", gatePluginSocket, "the `socket` at which the gate answers")
}

func (g *gateTarget) target(env *environment) (install.Target, error) {
	data, err := env.dataDir()
	if err != nil {
		return install.Target{}, failed(err)
	}
	return install.Target{
		Engine: strings.TrimPrefix(g.engine, "unix://"), Config: g.config, PluginSocket: g.socket, Data: data,
	}, nil
}

func newGateInstallCommand(env *environment) *cobra.Command {
	var target gateTarget
	var yes bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Make a running engine ask the gate",
		Long: `Adds the gate to the configuration of a Docker engine that runs, after showing
the change and asking. The engine takes it without a restart; containers go on.
The original is kept for gate uninstall. If the engine does not ask the gate
afterwards, everything is put back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := target.target(env)
			if err != nil {
				return err
			}
			change, err := install.Install(cmd.Context(), t)
			if errors.Is(err, install.ErrInstalled) {
				fmt.Fprintf(env.stdout, "Nothing to do: %v.\n", err)
				return nil
			}
			if err != nil {
				return failed(fmt.Errorf("gate install: %w", err))
			}
			done := fmt.Sprintf("The engine at %s asks the gate from now on. `breakwater gate uninstall` takes it out again.", t.Engine)
			return applyGateChange(cmd, env, change, yes, done)
		},
	}
	target.add(cmd)
	cmd.Flags().StringVar(&target.config, "config", "", "the engine's configuration `file` (default: the one that it uses)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// applyGateChange shows a change, asks, and makes it.
func applyGateChange(cmd *cobra.Command, env *environment, change *install.Change, yes bool, done string) error {
	fmt.Fprintf(env.stdout, "This changes the engine's configuration:\n\n%s\n", change.Diff())
	if !change.Engine {
		fmt.Fprintln(env.stdout, "The engine does not run; it takes the change when it starts.")
	}
	if !yes {
		agreed, err := agree(cmd.Context(), env, "Change it?")
		if err != nil {
			return failed(err)
		}
		if !agreed {
			fmt.Fprintln(env.stdout, "Nothing was changed.")
			return nil
		}
	}
	if err := change.Apply(cmd.Context()); err != nil {
		return failed(fmt.Errorf("gate %s: %w", cmd.Name(), err))
	}
	fmt.Fprintln(env.stdout, done)
	return nil
}

// agree asks a question; only a yes is one. No answer at all is an error, so
// that a script does not take silence for a decision; so is the end of ctx.
func agree(ctx context.Context, env *environment, question string) (bool, error) {
	fmt.Fprintf(env.stdout, "%s [y/N] ", question)
	var line string
	answered := make(chan error, 1)
	go func() { // reading cannot be broken off: without an answer it ends with the process
		var err error
		line, err = bufio.NewReader(env.stdin).ReadString('\n')
		answered <- err
	}()
	var err error
	select {
	case <-ctx.Done():
		fmt.Fprintln(env.stdout)
		return false, ctx.Err()
	case err = <-answered:
	}
	fmt.Fprintln(env.stdout)
	if err != nil && line == "" {
		return false, errors.New("nobody answered: give --yes to go on without being asked")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

func newGateUninstallCommand(env *environment) *cobra.Command {
	var target gateTarget
	var yes, keep, discard bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take the gate out of an engine again",
		Long: `Puts the engine's configuration back, byte for byte, after showing the change
and asking. If the file was changed since the gate was installed, choose:
--keep-changes takes only the gate's own part out, --discard-changes puts the
original back all the same. Works also while the gate is dead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := target.target(env)
			if err != nil {
				return err
			}
			choice := install.Ask
			switch {
			case keep && discard:
				return usage("--keep-changes and --discard-changes exclude each other")
			case keep:
				choice = install.Keep
			case discard:
				choice = install.Discard
			}
			change, err := install.Uninstall(cmd.Context(), t, choice)
			if err != nil {
				return failed(fmt.Errorf("gate uninstall: %w", err))
			}
			done := "The gate is out of the engine's configuration."
			var st gate.Status
			if gate.Ask(cmd.Context(), t.PluginSocket, &st) == nil {
				done += fmt.Sprintf(" Nobody asks it any more; its process still runs: end it with `kill %d`.", st.Supervisor)
			}
			return applyGateChange(cmd, env, change, yes, done)
		},
	}
	target.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&keep, "keep-changes", false, "take only the gate's own part out of a file that was changed since")
	cmd.Flags().BoolVar(&discard, "discard-changes", false, "put the original back, dropping what was changed since")
	return cmd
}

func newGateStatusCommand(env *environment) *cobra.Command {
	var target gateTarget
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the gate answers, and whether the engine asks it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return usage("--format=%s: neither table nor json", format)
			}
			t, err := target.target(env)
			if err != nil {
				return err
			}
			st := gateState{Gate: &gate.Status{}}
			if err := gate.Ask(cmd.Context(), t.PluginSocket, st.Gate); err != nil {
				st.Gate, st.GateError = nil, err.Error()
			}
			st.InFile, st.InUse, st.Config, err = install.Installed(cmd.Context(), t)
			if err != nil {
				st.EngineError = err.Error()
			}
			return st.print(env, format)
		},
	}
	target.add(cmd)
	cmd.Flags().StringVar(&format, "format", "table", "`table or json`")
	return cmd
}

// gateState is what `gate status` knows.
type gateState struct {
	Gate        *gate.Status `json:"gate"` // null: it does not answer
	GateError   string       `json:"gateError,omitempty"`
	Config      string       `json:"config,omitempty"` // the engine's file
	InFile      bool         `json:"inFile"`           // the file names the gate
	InUse       bool         `json:"inUse"`            // the engine asks it
	EngineError string       `json:"engineError,omitempty"`
}

// print ends with exit code 3 when the gate does not guard the engine.
func (s gateState) print(env *environment, format string) error {
	if format == "json" {
		enc := json.NewEncoder(env.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s); err != nil {
			return failed(err)
		}
	} else {
		s.table(env)
	}
	switch {
	case s.Gate == nil:
		return failed(fmt.Errorf("the gate does not answer: %s", s.GateError))
	case s.EngineError != "":
		return failed(errors.New(s.EngineError))
	case !s.InUse:
		return failed(errors.New("the engine does not ask the gate: install it with `breakwater gate install`"))
	case s.Gate.Problem != "":
		return failed(errors.New(s.Gate.Problem))
	}
	return nil
}

func (s gateState) table(env *environment) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(env.stdout, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	if g := s.Gate; g != nil {
		line("gate", "answers (supervisor %d, worker %d), on failure: %s", g.Supervisor, g.Worker, g.OnFailure)
		line("policy", "generation %d", g.Generation)
		line("judged", "%d allowed, %d refused, %d could not be judged; %d calls asked about", g.Allowed, g.Refused, g.Failed, g.Asked)
		line("notes", "%d wait for the agent, %d dropped", g.Waiting, g.Dropped)
		if len(g.Allow) > 0 {
			line("unjudged", "%s", strings.Join(g.Allow, ", "))
		}
	} else {
		line("gate", "does not answer")
	}
	if s.Config == "" {
		line("engine", "cannot be asked: %s", s.EngineError)
		return
	}
	line("engine", "%s %s the gate; the engine %s it", s.Config, pick(s.InFile, "names", "does not name"), pick(s.InUse, "asks", "does not ask"))
}

func pick(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}
