package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate/install"
	"github.com/breakwater-sec/breakwater/internal/probe"
)

// canaryCommand is the hidden command by which the prober starts its canary.
const canaryCommand = "canary"

// probeOptions are the prober's for this binary.
func probeOptions() probe.Options {
	return probe.Options{Canary: []string{canaryCommand}, AsksGate: func(ctx context.Context, socket string) bool {
		_, inUse, _, err := install.Installed(ctx, install.Target{Engine: socket, PluginSocket: gatePluginSocket})
		return err == nil && inUse
	}}
}

func newDoctorCommand(env *environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What this host can prevent, kill or only detect, and why",
		Long: `doctor tries every mechanism of enforcement on a canary of its own, in a scratch
cgroup, and tells per control what this host does:

  prevent                         the act is refused and has no effect
  prevent while the agent lives   the same, as long as the agent runs
  kill                            the process ends before its first instruction
  detect                          it happens and is reported
  none                            nothing watches it here

It needs root. Without, it prints what it can and ends with status 3.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return usage("--format %q: want table or json", format)
			}
			d := probe.Run(cmd.Context(), probeOptions())
			if err := writeDoctor(env.stdout, d, format); err != nil {
				return failed(fmt.Errorf("write the result: %w", err))
			}
			return doctorProblem(os.Geteuid(), d)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "output format: table, json")
	return cmd
}

func writeDoctor(w io.Writer, d event.Doctor, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(d)
	}
	return probe.WriteTable(w, d)
}

// doctorProblem: nothing was probed.
func doctorProblem(uid int, d event.Doctor) error {
	if uid != 0 {
		return failed(fmt.Errorf("probing needs root, this is uid %d: nothing above was tried; run `sudo breakwater doctor`", uid))
	}
	for _, c := range d.Capabilities {
		if c.Control != event.ControlStart && !c.Inconclusive {
			return nil
		}
	}
	return failed(errors.New("nothing could be probed; the reason stands in every row"))
}

// newCanaryCommand is for the prober only; it does what it is told on its
// standard input.
func newCanaryCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: canaryCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return failed(probe.Canary(env.stdin, env.stdout))
		},
	}
}
