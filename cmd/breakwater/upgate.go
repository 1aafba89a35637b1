package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/breakwater-sec/breakwater/internal/gate"
	"github.com/breakwater-sec/breakwater/internal/gate/install"
)

// gateOffer is how up puts the gate before the engine: it asks first, and takes
// no for an answer.
type gateOffer struct {
	answer, config, socket string
	logs                   *heldWriter // wait while somebody is asked
}

func (g *gateOffer) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&g.answer, "gate", "ask", "install the gate into the engine: `ask, yes or no`")
	cmd.Flags().StringVar(&g.config, "gate-config", "", "the engine's configuration `file` (default: the one that it uses)")
	cmd.Flags().StringVar(&g.socket, "gate-socket", gatePluginSocket, "the `socket` at which the gate answers")
}

func (g *gateOffer) validate() error {
	switch g.answer {
	case "ask", "yes", "no":
		return nil
	}
	return usage("--gate=%s: want ask, yes or no", g.answer)
}

// offer shows the change and asks. Trouble with the gate is told and does not
// end the agent: the rest of the protection stands.
func (g *gateOffer) offer(ctx context.Context, env *environment, data string, engines []string) error {
	engines = socketPaths(engines)
	if len(engines) == 0 {
		return nil
	}
	err := g.install(ctx, env, data, engines[0])
	switch {
	case errors.Is(err, install.ErrInstalled):
		fmt.Fprintf(env.stdout, "\nThe gate decides what the engine at %s may start.\n", engines[0])
		var st gate.Status
		if err := gate.Ask(ctx, g.socket, &st); err == nil && st.Data != "" && st.Data != data {
			fmt.Fprintf(env.stdout, "It was started for %s and judges by the policies there, not by those of %s:\nto change that, `breakwater gate uninstall`, end process %d and start this again.\n", st.Data, data, st.Supervisor)
		}
	case err != nil && ctx.Err() == nil:
		fmt.Fprintf(env.stderr, "breakwater: the gate is not installed: %v\n", err)
	}
	if ctx.Err() == nil {
		fmt.Fprintln(env.stdout, "\nGuarding. Ctrl-C ends this process; what the kernel enforces stays.")
	}
	return nil
}

func (g *gateOffer) install(ctx context.Context, env *environment, data, engine string) error {
	target := install.Target{Engine: engine, Config: g.config, PluginSocket: g.socket, Data: data}
	if inFile, _, _, err := install.Installed(ctx, target); err == nil && inFile {
		_, err := g.start(ctx, data, engine)
		return errors.Join(err, install.ErrInstalled)
	}
	if g.answer == "no" || g.answer == "ask" && !interactive(env) {
		fmt.Fprintln(env.stdout, "\nThe gate is not installed: images and start parameters are judged when a\ncontainer appears, not before it starts. `breakwater gate install` adds it.")
		return nil
	}
	// The gate must answer before the engine is told to ask it.
	end, err := g.start(ctx, data, engine)
	if err != nil {
		return err
	}
	change, err := install.Install(ctx, target)
	if err != nil {
		return errors.Join(err, end())
	}
	if g.answer == "ask" {
		defer g.logs.hold()()
	}
	fmt.Fprintf(env.stdout, "\nThe gate refuses what policy refuses before it starts. Installing it changes the\nengine's configuration:\n\n%s\n", change.Diff())
	if g.answer == "ask" {
		agreed, err := agree(ctx, env, "Change it?")
		if err != nil {
			return errors.Join(err, end())
		}
		if !agreed {
			fmt.Fprintln(env.stdout, "Nothing was changed. `breakwater gate run` and `breakwater gate install` do it later.")
			return end()
		}
	}
	if err := change.Apply(ctx); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "The engine at %s asks the gate from now on; the gate outlives this process.\n`breakwater gate uninstall` takes it out again.\n", engine)
	return nil
}

// start runs the gate in a session of its own, unless it answers already. end
// ends what was started here, as long as no engine asks it.
func (g *gateOffer) start(ctx context.Context, data, engine string) (end func() error, err error) {
	if answers(ctx, g.socket) {
		return func() error { return nil }, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	logPath := filepath.Join(data, "gate.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, "gate", "run", "--data="+data, "--engine="+engine, "--plugin-socket="+g.socket) //nolint:noctx // it outlives this process by design
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the gate: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.NewTimer(15 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !answers(ctx, g.socket) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			return nil, fmt.Errorf("the gate ended while it started: %w: see %s", err, logPath)
		case <-deadline.C:
			return nil, fmt.Errorf("the gate does not answer: see %s", logPath)
		case <-tick.C:
		}
	}
	return func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended: //nolint:errcheck // how it ended does not matter: it is away
			return nil
		case <-time.After(15 * time.Second):
			return fmt.Errorf("the gate (process %d) does not end", cmd.Process.Pid)
		}
	}, nil
}

func answers(ctx context.Context, socket string) bool {
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// interactive: somebody can be asked.
func interactive(env *environment) bool {
	in, ok := env.stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd())) && !strings.EqualFold(env.getenv("TERM"), "dumb")
}
