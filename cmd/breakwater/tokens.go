package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newTokensCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "Tokens for programs that speak to a server",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usage("tokens: create is needed") },
	}
	cmd.AddCommand(newTokensCreateCommand(env))
	return cmd
}

func newTokensCreateCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var scope, name string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it",
		Long: `A token of scope ci lets a pipeline have its scans judged (breakwater scan --server),
and does nothing else; it holds for a day at most. One of scope viewer reads
everything and changes nothing.

On the server's own host this command finds the server by its data folder;
elsewhere give --server, --fingerprint and --token-file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			var made struct{ Token, Fingerprint string }
			request := map[string]any{"name": name, "scope": scope, "life": life.String()}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/tokens", request, &made); err != nil {
				return err
			}
			// The token alone goes to standard output, so that > file keeps it.
			fmt.Fprintf(env.stderr, "Scope %s, for %s. The server's fingerprint: %s\n", scope, life, made.Fingerprint)
			fmt.Fprintln(env.stdout, made.Token)
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&scope, "scope", "ci", "ci or viewer")
	cmd.Flags().StringVar(&name, "name", "default", "a token of the same scope and name is replaced")
	cmd.Flags().DurationVar(&life, "ttl", time.Hour, "how long it holds")
	return cmd
}
