package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/config"
	"github.com/breakwater-sec/breakwater/internal/durable"
	"github.com/breakwater-sec/breakwater/internal/server"
)

func newServerCommand(env *environment) *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Console, API and message bus for the agents of other hosts",
		Long: `Runs the server alone, in the foreground; it needs no root. Agents on other hosts
join it with a token:

  server   breakwater server --listen 0.0.0.0:8443 --bus-listen 0.0.0.0:8444 --name NAME
           breakwater agents token > token       (on the server's host)
  host     breakwater agent --server https://NAME:8443 --fingerprint SHA256 --token-file token

NAME is the name by which the hosts reach the server; the fingerprint is printed
at the start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return failed(runServer(cmd.Context(), env, flags)) },
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&flags.malware, "malware", "", "`address` of a ClamAV daemon to show the files of images of registries to: clamd://HOST:PORT or clamd:///PATH/TO/SOCKET")
	return cmd
}

func runServer(ctx context.Context, env *environment, flags serverFlags) error {
	data, err := makeDataDir(env)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(env.stderr, nil))
	srv, conf, err := openServer(ctx, flags, data, log)
	if err != nil {
		return err
	}
	if err := showPassword(env, srv.FirstPassword(), data); err != nil {
		return errors.Join(err, srv.Close())
	}
	fmt.Fprintf(env.stdout, "Console:     %s\nFingerprint: %s (of its certificate's authority)\n\nServing. `breakwater agents token` makes a token for an agent to join.\n", srv.URL(), srv.Fingerprint())
	return errors.Join(serve(ctx, srv, conf, func() (config.Config, error) { return flags.load(data) }, data, log), srv.Close())
}

// letInCommands leaves what this host's own command line needs to speak to the
// server: its address, and a token that only the server's user reads.
func letInCommands(ctx context.Context, srv *server.Server, data string) error {
	if _, err := srv.LocalToken(ctx); err != nil {
		return err
	}
	local, err := url.Parse(srv.URL())
	if err != nil {
		return err
	}
	address := local.Host
	if ip, err := netip.ParseAddr(local.Hostname()); err != nil || ip.IsUnspecified() {
		address = net.JoinHostPort("127.0.0.1", local.Port()) // it listens on every address
	}
	return durable.WriteFile(filepath.Join(data, "server", "url"), []byte("https://"+address+"\n"), 0o640)
}

// pemFingerprint is the SHA-256 of the first certificate, in hex.
func pemFingerprint(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("no certificate in PEM")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// reachable is the bus's address as this host reaches it: a server that listens
// on every address is at the host by which it was found.
func reachable(bus, server string) (string, error) {
	u, err := url.Parse(bus)
	if err != nil {
		return "", fmt.Errorf("bus address %q: %w", bus, err)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort(server, u.Port())
	}
	return u.String(), nil
}
