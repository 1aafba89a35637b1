package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func newAgentsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "The agents of a server: invite, list, label, revoke",
		Long: `On the server's own host these commands find the server by its data folder;
elsewhere give --server, --fingerprint and --token-file.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("agents: one of token, list, set-stage, revoke is needed")
		},
	}
	cmd.AddCommand(newAgentsTokenCommand(env), newAgentsListCommand(env), newAgentsStageCommand(env), newAgentsRevokeCommand(env))
	return cmd
}

func newAgentsTokenCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var uses int
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token with which agents join, and print it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			request := map[string]any{"uses": uses, "life": life.String()}
			var made struct{ Token, Fingerprint string }
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/agents/tokens", request, &made); err != nil {
				return err
			}
			// The token alone goes to standard output, so that > file keeps it.
			fmt.Fprintf(env.stderr, "For %s within %s. The server's fingerprint: %s\n", countOf(uses, "agent"), life, made.Fingerprint)
			fmt.Fprintln(env.stdout, made.Token)
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&uses, "uses", 1, "how many agents may join with it")
	cmd.Flags().DurationVar(&life, "life", time.Hour, "how long it holds, at most 720h")
	return cmd
}

func newAgentsListCommand(env *environment) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the agents and when each was heard of last",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			var hosts struct {
				Items []struct {
					ID, Host      string
					Stage         string
					Seen, Revoked time.Time
					Status        *event.HostStatus
				}
			}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/hosts", nil, &hosts); err != nil {
				return err
			}
			w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "AGENT\tHOST\tSTAGE\tGENERATION\tCONTAINERS\tINTELLIGENCE\tLAST HEARD OF")
			for _, h := range hosts.Items {
				stage, generation, containers, intelligence, seen := "-", "-", "-", "-", "never"
				if h.Stage != "" {
					stage = h.Stage
				}
				if h.Status != nil && h.Status.Intelligence != "" {
					intelligence = h.Status.Intelligence
				}
				if h.Status != nil {
					generation, containers = fmt.Sprint(h.Status.Generation), fmt.Sprint(len(h.Status.Containers))
				}
				if !h.Seen.IsZero() {
					seen = h.Seen.UTC().Format(time.RFC3339)
				}
				if !h.Revoked.IsZero() {
					seen = "revoked " + h.Revoked.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, h.Host, stage, generation, containers, intelligence, seen)
			}
			return failed(w.Flush())
		},
	}
	flags.add(cmd)
	return cmd
}

// noStage takes the label off.
const noStage = "none"

func newAgentsStageCommand(env *environment) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "set-stage AGENT STAGE",
		Short: "Label an agent's host development, staging, production, or none",
		Long: `Labels an agent's host. Policies see it as ` + "`stage`" + ` in their scope and rules, and
their mode may differ by it. The host follows within seconds.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("agents set-stage: name one agent by its id, as `breakwater agents list` shows it, and a stage: development, staging, production or none")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			stage := args[1]
			if stage == noStage {
				stage = ""
			}
			if err := c.call(cmd.Context(), http.MethodPut, "/api/v1/agents/"+url.PathEscape(args[0])+"/stage", map[string]string{"stage": stage}, nil); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "Agent %s: stage %s.\n", args[0], args[1])
			return nil
		},
	}
	flags.add(cmd)
	return cmd
}

func newAgentsRevokeCommand(env *environment) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "revoke AGENT",
		Short: "End an agent's trust and connection; its host stays enforced as it is",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("agents revoke: name one agent by its id, as `breakwater agents list` shows it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/agents/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "Agent %s is revoked.\n", args[0])
			return nil
		},
	}
	flags.add(cmd)
	return cmd
}

func openClient(env *environment, flags clientFlags) (*client, error) {
	data, err := env.dataDir()
	if err != nil {
		return nil, failed(err)
	}
	c, err := flags.localClient(data)
	return c, kept(err)
}
