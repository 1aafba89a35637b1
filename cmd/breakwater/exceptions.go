package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

func newIncidentsExceptCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var reason, until string
	var container bool
	cmd := &cobra.Command{
		Use:   "except ID",
		Short: "Tell no more of exactly such an act, until a day",
		Long: `Makes an exception as tight as what the incident saw: the same detection, program
with the same parent, and target, in containers of the same image (whatever its
tag) or, with --container, in the container of that name only. Agents take it up
at once; what it covers is counted, told no more, and answered by no agent.

It lifts nothing in the kernel: what policy refuses or kills there stays so until
the policy allows it, and what is always malicious until a policy waives it.`,
		Args: oneIncident("except"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" || until == "" {
				return usage("incidents except: --reason and --until are needed: why it is wanted, and the last day, as 2027-01-31")
			}
			if _, err := web.LastDay(until); err != nil {
				return usage("--until: %v", err)
			}
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			body := map[string]string{"reason": reason, "until": until, "scope": "image"}
			if container {
				body["scope"] = "container"
			}
			var x store.Exception
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/incidents/"+args[0]+"/exceptions", body, &x); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "Exception %d: %s until %s.\n", x.ID, report.Printable(describeException(x)), until)
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why it is wanted")
	cmd.Flags().StringVar(&until, "until", "", "the last `day`, as 2027-01-31, at most a year away")
	cmd.Flags().BoolVar(&container, "container", false, "only in the container of that name, not in all of the image")
	return cmd
}

func describeException(x store.Exception) string {
	where := "image " + x.Image
	if x.Container != "" {
		where = "container " + x.Container
	}
	return fmt.Sprintf("%s by %s on %s in %s", x.Detection, x.Program, x.Target, where)
}

func newIncidentsExceptionsCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var format string
	cmd := &cobra.Command{
		Use:   "exceptions",
		Short: "List exceptions, and what each passed over",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := tableOrJSON(format); err != nil {
				return err
			}
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			var list struct {
				Items []store.Exception `json:"items"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/exceptions", nil, &list); err != nil {
				return err
			}
			if format == "json" {
				return writeIndented(env.stdout, list.Items)
			}
			table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "ID\tUNTIL\tPASSED OVER\tLAST\tWHAT\tREASON")
			for _, x := range list.Items {
				last := "never"
				if !x.Last.IsZero() {
					last = x.Last.UTC().Format(time.RFC3339) + " " + string(x.Outcome)
				}
				fmt.Fprintf(table, "%d\t%s\t%d\t%s\t%s\t%s\n", x.ID, x.Ends.AddDate(0, 0, -1).Format(time.DateOnly), x.Count, report.Printable(last), report.Printable(describeException(x)), report.Printable(x.Reason))
			}
			return failed(table.Flush())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func newIncidentsUnexceptCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "unexcept EXCEPTION",
		Short: "Take an exception back",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := strconv.ParseUint(args[0], 10, 63); err == nil {
					return nil
				}
			}
			return usage("incidents unexcept: name one exception by its number, as `breakwater incidents exceptions` shows it")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			base := *c.base
			base.RawQuery = url.Values{"reason": {reason}}.Encode()
			c.base = &base
			if err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/exceptions/"+args[0], nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(env.stdout, "Exception %s counts no more.\n", args[0])
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}
