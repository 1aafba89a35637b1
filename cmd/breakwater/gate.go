package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/gate"
)

// gateFDVariable hands the plugin's socket from a worker whose supervisor died
// to the supervisor that it becomes.
const gateFDVariable = "BREAKWATER_INTERNAL_GATE_FD"

// gatePluginSocket is where a Docker engine looks for the plugin "breakwater".
const gatePluginSocket = "/run/docker/plugins/breakwater.sock"

const engineSocket = "/var/run/docker.sock"

func newGateCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Decide at start time what an engine may run",
		Long: `The gate is asked by a Docker engine before it creates, starts, updates or
enters a container, and refuses what policy refuses.

It is a program of its own (gate run), which outlives agent and server, and an
entry in the engine's configuration (gate install). Run it before installing it:
an engine refuses every call while a plugin that it is configured with is away.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("gate: one of install, run, status, uninstall is needed")
		},
	}
	cmd.AddCommand(newGateRunCommand(env), newGateWorkerCommand(env), newGateInstallCommand(env), newGateUninstallCommand(env), newGateStatusCommand(env))
	return cmd
}

// gateFlags are the flags that supervisor and worker share.
type gateFlags struct {
	engine, socket, onFailure string
	scanTimeout               time.Duration
	allow                     []string
}

func (f *gateFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.engine, "engine", engineSocket, "the engine's `socket`")
	cmd.Flags().StringVar(&f.socket, "plugin-socket", gatePluginSocket, "the `socket` at which the engine asks")
	cmd.Flags().StringVar(&f.onFailure, "on-failure", string(gate.FailClosed), "what to do with calls that cannot be judged: `closed or open`")
	cmd.Flags().DurationVar(&f.scanTimeout, "scan-timeout", time.Minute, "how long a start waits for the scan of a new image")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "let through calls that no policy judges: `"+strings.Join(gate.Classes(), ", ")+"`")
}

// args are the same flags for another process.
func (f *gateFlags) args(command, data string) []string {
	return []string{
		"gate", command, "--data=" + data, "--engine=" + f.engine, "--plugin-socket=" + f.socket,
		"--on-failure=" + f.onFailure, "--scan-timeout=" + f.scanTimeout.String(), "--allow=" + strings.Join(f.allow, ","),
	}
}

func (f *gateFlags) options(env *environment) (gate.Options, error) {
	data, err := env.dataDir()
	if err != nil {
		return gate.Options{}, failed(err)
	}
	onFailure, err := gate.ParseFailure(f.onFailure)
	if err != nil {
		return gate.Options{}, usage("--on-failure: %v", err)
	}
	for _, class := range f.allow {
		if !slices.Contains(gate.Classes(), class) {
			return gate.Options{}, usage("--allow=%s: not one of %s", class, strings.Join(gate.Classes(), ", "))
		}
	}
	if f.scanTimeout <= 0 {
		return gate.Options{}, usage("--scan-timeout=%s: must be longer than nothing", f.scanTimeout)
	}
	f.engine = strings.TrimPrefix(f.engine, "unix://")
	return gate.Options{
		Data: data, Engine: f.engine, OnFailure: onFailure, ScanTimeout: f.scanTimeout, Allow: f.allow,
		Log: slog.New(slog.NewTextHandler(env.stderr, nil)),
	}, nil
}

func newGateRunCommand(env *environment) *cobra.Command {
	var flags gateFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Answer an engine's questions (its authorization plugin)",
		Long: `Answers a Docker engine's questions until it is told to end (SIGTERM).

Policy and image reports come from the agent's data folder; no agent need live.
With --on-failure=closed, the default, a call that cannot be judged is refused;
with open it is let through and noted. Reads are always let through.

Under systemd the socket may be inherited (LISTEN_FDS), so that the engine's
calls wait while the service restarts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.options(env)
			if err != nil {
				return err
			}
			return failed(superviseGate(cmd.Context(), env, &flags, options))
		},
	}
	flags.add(cmd)
	return cmd
}

func superviseGate(ctx context.Context, env *environment, flags *gateFlags, options gate.Options) error {
	gate.Steady()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	supervisor := &gate.Supervisor{Options: options, Worker: func() *exec.Cmd {
		cmd := exec.Command(self) //nolint:noctx // the supervisor ends it
		cmd.Args = append(os.Args[:1:1], flags.args("worker", options.Data)...)
		cmd.Env = withoutVariable(os.Environ(), gateFDVariable, "LISTEN_FDS", "LISTEN_PID")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		return cmd
	}}
	if fd, ok := inheritedFD(env.getenv); ok {
		supervisor.Listener, err = gate.Inherited(fd)
	} else {
		supervisor.Listener, err = gate.ListenPlugin(ctx, flags.socket)
	}
	if err != nil {
		return err
	}
	options.Log.Info("the gate answers", "socket", flags.socket, "engine", options.Engine, "on-failure", options.OnFailure, "data", options.Data)
	err = supervisor.Run(ctx)
	if ctx.Err() != nil && env.getenv("LISTEN_FDS") == "" {
		// An engine asks whatever lies in the plugins' folder, also for volumes,
		// and waits many seconds for a socket that nobody answers at.
		err = errors.Join(err, os.Remove(flags.socket))
	}
	return err
}

// inheritedFD is the descriptor of a socket that this process was started with.
func inheritedFD(getenv func(string) string) (uintptr, bool) {
	if fd, err := strconv.ParseUint(getenv(gateFDVariable), 10, 8); err == nil {
		return uintptr(fd), true
	}
	// systemd's protocol, sd_listen_fds(3): descriptors begin at 3.
	return 3, getenv("LISTEN_FDS") == "1" && getenv("LISTEN_PID") == strconv.Itoa(os.Getpid())
}

func newGateWorkerCommand(env *environment) *cobra.Command {
	var flags gateFlags
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "The judging half of gate run; started by it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.options(env)
			if err != nil {
				return err
			}
			return failed(workGate(cmd.Context(), &flags, options))
		},
	}
	flags.add(cmd)
	return cmd
}

// workGate judges until the supervisor says so, or is dead: then this process
// becomes the supervisor.
func workGate(ctx context.Context, flags *gateFlags, options gate.Options) error {
	gate.Steady()
	ctx, end := context.WithCancel(ctx)
	defer end()
	orphaned := make(chan error, 1)
	go func() {
		orphaned <- gate.Lifeline(ctx)
		end()
	}()
	if err := gate.Work(ctx, options); err != nil {
		return err
	}
	end()
	switch err := <-orphaned; {
	case errors.Is(err, context.Canceled):
		return nil // told to end
	case err != nil:
		return fmt.Errorf("gate worker: %w (it is started by `breakwater gate run`, not by hand)", err)
	}
	options.Log.Error("the gate's supervisor is dead; its worker takes its place")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	variables := append(withoutVariable(os.Environ(), gateFDVariable), gateFDVariable+"="+strconv.Itoa(gate.FDListener))
	return syscall.Exec(self, append(os.Args[:1:1], flags.args("run", options.Data)...), variables)
}

func withoutVariable(variables []string, names ...string) []string {
	var out []string
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(names, name) {
			out = append(out, v)
		}
	}
	return out
}
