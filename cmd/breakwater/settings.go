package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/internal/config"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/notify"
	"github.com/breakwater-sec/breakwater/internal/notify/transport/syslog"
	"github.com/breakwater-sec/breakwater/internal/server"
)

// keepSettings carries out the configuration until ctx ends, and reads it anew
// on SIGHUP. A file that is wrong then changes nothing and is told in the log.
func keepSettings(ctx context.Context, srv *server.Server, conf config.Config, load func() (config.Config, error), data string, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		srv.Retain(conf.Retention.Events, conf.Retention.MaxEvents)
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- runSettings(running, srv, conf, data, log) }()
		next, err := nextSettings(ctx, hangup, done, load, log)
		stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
		if err := <-done; err != nil {
			return err
		}
		conf = next
		log.Info("configuration read again", "outputs", len(conf.Outputs))
	}
}

// nextSettings waits for a right configuration to follow the one that runs. It
// returns early with what ended that one.
func nextSettings(ctx context.Context, hangup <-chan os.Signal, done <-chan error, load func() (config.Config, error), log *slog.Logger) (config.Config, error) {
	for {
		select {
		case <-ctx.Done():
			return config.Config{}, <-done
		case err := <-done:
			return config.Config{}, err
		case <-hangup:
			conf, err := load()
			if err == nil {
				return conf, nil
			}
			log.Error("the configuration is wrong; the one before stays in force", "error", err)
		}
	}
}

// runSettings runs the outputs and the intelligence updates of a configuration
// until ctx ends.
func runSettings(ctx context.Context, srv *server.Server, conf config.Config, data string, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, out := range conf.Outputs {
		receiver, err := syslog.New(*out.Syslog)
		if err != nil {
			// One output that cannot work must not take the others down.
			log.Error("output is off", "output", out.Name, "error", err)
			continue
		}
		group.Go(func() error { return forward(ctx, srv, out, receiver) })
	}
	if conf.Intelligence.Every > 0 {
		group.Go(func() error { return updateIntelligence(ctx, conf.Intelligence, data, log) })
	}
	group.Go(func() error { <-ctx.Done(); return nil })
	return group.Wait()
}

// forward sends incidents to a receiver. The output's name keeps its place in the
// stream of incidents across restarts.
func forward(ctx context.Context, srv *server.Server, out config.Output, receiver notify.Transport) error {
	name := out.Name
	cursor, err := srv.Cursor(ctx, name)
	if err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	if err := notify.New(srv.Output(name, out.Rises), receiver, notify.Options{Cursor: cursor}).Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	return nil
}

// updateIntelligence builds a new bundle now and then; a source that is away
// is told and tried again next time.
func updateIntelligence(ctx context.Context, c config.Intelligence, data string, log *slog.Logger) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		m, err := intel.Build(ctx, intel.Options{Data: data, Source: c.Source, Program: version})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			log.Error("intelligence update failed; the bundle before stays in use", "error", err)
		default:
			log.Info("intelligence updated", "bundle", m.Version)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
