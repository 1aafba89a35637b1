package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/config"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/sensor"
	"github.com/breakwater-sec/breakwater/internal/server"
)

// serverFlags are what a server cannot change while it runs.
type serverFlags struct {
	listen, busListen, config string
	names                     []string
	malware                   string // of images of registries
}

func (f *serverFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8443", "`address` of the console and the API")
	cmd.Flags().StringVar(&f.busListen, "bus-listen", "127.0.0.1:8444", "`address` that agents connect to")
	cmd.Flags().StringSliceVar(&f.names, "name", nil, "further `names` and addresses that the server's certificate is for")
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `file` (default: breakwater.yaml in the data folder)")
}

func (f *serverFlags) load(data string) (config.Config, error) {
	if f.config != "" {
		if _, err := os.Stat(f.config); err != nil {
			return config.Config{}, fmt.Errorf("configuration: %w", err)
		}
		return config.Load(f.config)
	}
	return config.Load(filepath.Join(data, "breakwater.yaml"))
}

type upCommand struct {
	server serverFlags
	host   hostFlags
	gate   gateOffer
}

func newUpCommand(env *environment) *cobra.Command {
	var u upCommand
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Guard this host: server and agent in one process",
		Long: `Runs the server with its console and the agent of this host, in the foreground,
with an embedded database and message bus below the data folder.

Enforcement is in the kernel and outlives this process: ending it lifts nothing.
` + "`breakwater unload`" + ` takes it out of the kernel.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := u.gate.validate(); err != nil {
				return err
			}
			return kept(u.run(cmd.Context(), env))
		},
	}
	u.server.add(cmd)
	u.host.add(cmd)
	u.gate.add(cmd)
	return cmd
}

func (u *upCommand) run(ctx context.Context, env *environment) error {
	data, err := makeDataDir(env)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("guarding a host needs root: run it with sudo, or run `breakwater server` alone")
	}
	if _, err := sensor.Spare(u.host.pin); err != nil && !errors.Is(err, sensor.ErrBusy) { // who is there is told later
		return err
	}
	u.gate.logs = &heldWriter{w: env.stderr}
	log := slog.New(slog.NewTextHandler(u.gate.logs, nil))
	u.server.malware = u.host.malware
	srv, conf, err := openServer(ctx, u.server, data, log)
	if err != nil {
		return err
	}
	// At once: whatever fails next, the password is shown only now.
	if err := showPassword(env, srv.FirstPassword(), data); err != nil {
		return errors.Join(err, srv.Close())
	}
	h, err := u.localAgent(ctx, srv, data, log)
	if err != nil {
		return errors.Join(err, srv.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return serve(ctx, srv, conf, func() (config.Config, error) { return u.server.load(data) }, data, log)
	})
	group.Go(func() error { return h.Run(ctx) })
	group.Go(func() error { rest(ctx); return nil })
	group.Go(func() error {
		select {
		case <-h.Ready():
		case <-time.After(20 * time.Second): // a server or engine that is slow; the heartbeat tells
		case <-ctx.Done():
			return nil
		}
		u.welcome(env, srv, h)
		if u.host.observe {
			u.gate.answer = "no"
		}
		return u.gate.offer(ctx, env, data, u.host.engines)
	})
	err = group.Wait()
	return errors.Join(err, h.close(), srv.Close())
}

func makeDataDir(env *environment) (string, error) {
	data, err := env.dataDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(data, 0o750); err != nil {
		return "", fmt.Errorf("data folder: %w: choose another with --data", err)
	}
	return data, nil
}

// localAgent makes this host's agent and admits it to the server, without a
// token: both are this process.
func (u *upCommand) localAgent(ctx context.Context, srv *server.Server, data string, log *slog.Logger) (*hostAgent, error) {
	host, err := u.host.host()
	if err != nil {
		return nil, err
	}
	seed, public, err := agentSeed(data)
	if err != nil {
		return nil, err
	}
	enrolled, err := srv.EnrolLocal(ctx, host, public)
	if err != nil {
		return nil, err
	}
	if err := trustPolicyKey(data, enrolled.PolicyKey); err != nil {
		return nil, err
	}
	if enrolled.BusURL, err = reachable(enrolled.BusURL, "127.0.0.1"); err != nil {
		return nil, err
	}
	return openAgent(ctx, u.host, data, host, seed, enrolled, log)
}

// openServer opens the server below the data folder with the configuration
// that lies there.
func openServer(ctx context.Context, f serverFlags, data string, log *slog.Logger) (*server.Server, config.Config, error) {
	conf, err := f.load(data)
	if err == nil {
		err = checkClamd(ctx, f.malware)
	}
	if err != nil {
		return nil, conf, err
	}
	baseline, err := fs.ReadFile(content.Policies(), "baseline.yaml")
	if err != nil {
		return nil, conf, err
	}
	srv, err := server.Open(ctx, server.Options{
		Dir: filepath.Join(data, "server"), Listen: f.listen, BusListen: f.busListen, Names: f.names,
		Policies: baseline, Intelligence: data, Malware: f.malware, Trust: filepath.Join(data, trustFile), EventAge: conf.Retention.Events, EventRows: conf.Retention.MaxEvents, Version: version, Log: log,
	})
	switch {
	case errors.Is(err, server.ErrConsoleAddress):
		err = fmt.Errorf("%w: choose another with --listen", err)
	case errors.Is(err, bus.ErrAddress):
		err = fmt.Errorf("%w: choose another with --bus-listen", err)
	}
	return srv, conf, err
}

// serve runs the server with its outputs and its intelligence updates.
func serve(ctx context.Context, srv *server.Server, conf config.Config, load func() (config.Config, error), data string, log *slog.Logger) error {
	if err := letInCommands(ctx, srv, data); err != nil {
		return fmt.Errorf("this host's command line: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error { return keepSettings(ctx, srv, conf, load, data, log) })
	return group.Wait()
}

// showPassword gives the first password to a terminal, or else to a file that
// only root can read; never to a log.
func showPassword(env *environment, password, data string) error {
	if password == "" {
		return nil
	}
	if f, ok := env.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(env.stdout, "\nFirst login: admin, password %s (shown once)\n", password)
		return nil
	}
	path := filepath.Join(data, "first-password")
	_ = os.Remove(path) // of a database that is gone
	if err := writeNew(path, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("first password: %w", err)
	}
	fmt.Fprintf(env.stdout, "\nFirst login: admin, password in %s\n", path)
	return nil
}

// welcome says where to look, what this host can do, and what is guarded.
func (u *upCommand) welcome(env *environment, srv *server.Server, h *hostAgent) {
	fmt.Fprintf(env.stdout, "Console:     %s\nFingerprint: %s (of its certificate's authority)\n\n", srv.URL(), srv.Fingerprint())
	h.welcome(env, u.host.observe)
}

// welcome says what this host can do and what is guarded on it.
func (h *hostAgent) welcome(env *environment, observe bool) {
	w := env.stdout
	writeSummary(w, h.doctor)
	status := h.Status()
	if h.unguarded != "" {
		fmt.Fprintf(w, "\nWARNING: NOTHING IS ENFORCED IN THIS HOST'S KERNEL: %s.\nContainers can do what they like once they run. Starts are judged by the gate, where one is installed;\nwhat starts past it is judged when the engine tells; images are scanned. The server serves other hosts as ever.\n", h.unguarded)
	}
	fmt.Fprintf(w, "\nGuarding %s: %s, by policy generation %d.\n", status.Host, countOf(len(status.Containers), "container"), status.Generation)
	for _, c := range status.Containers {
		fmt.Fprintf(w, "  %-24s %-28s %s\n", nameOr(c.Container.Name, c.Container.ID), c.Container.Image.Name(), modeOf(c))
	}
	if observe {
		fmt.Fprintln(w, "Observing only: this agent stops nothing. A gate that is installed goes on refusing.")
	}
}

func nameOr(name, id string) string {
	if name != "" {
		return name
	}
	return id[:min(12, len(id))]
}

func modeOf(g event.Guarded) string {
	if g.Why != "" {
		return g.Mode + " (" + g.Why + ")"
	}
	return g.Mode
}

func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// writeSummary says in a line each what this host can do, the strongest first.
func writeSummary(w io.Writer, d event.Doctor) {
	fmt.Fprintf(w, "This host (kernel %s, tier %d) can\n", d.Kernel, d.Tier)
	for _, strength := range []event.Strength{event.StrengthPrevent, event.StrengthPreventLive, event.StrengthKill, event.StrengthDetect, event.StrengthNone} {
		var controls []string
		for _, c := range d.Capabilities {
			if c.Strength == strength {
				controls = append(controls, string(c.Control))
			}
		}
		if len(controls) > 0 {
			word := string(strength)
			if strength == event.StrengthNone {
				word = "do nothing about"
			}
			fmt.Fprintf(w, "  %s: %s\n", word, strings.Join(controls, ", "))
		}
	}
	fmt.Fprintln(w, "`breakwater doctor` says why.")
}
