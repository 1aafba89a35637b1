package main

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/web"
)

// tryDetections checks a document of detections, and says how many it holds.
func tryDetections(name string, text []byte) (int, error) {
	rules, err := detect.LoadText(name, text)
	if err != nil {
		return 0, err
	}
	return len(rules.All()), rules.Check()
}

// readDetections puts files of detections together to one document.
func readDetections(paths []string) ([]byte, error) {
	var all []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, failed(err)
		}
		if len(all) > 0 {
			all = append(all, "\n---\n"...)
		}
		all = append(all, text...)
	}
	return all, nil
}

func newDetectionsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detections",
		Short: "What detections told lately; try new ones before they are enabled",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("detections: one of list, test, replay is needed")
		},
	}
	cmd.AddCommand(newDetectionsListCommand(env), newDetectionsTestCommand(env), newDetectionsReplayCommand(env))
	return cmd
}

func newDetectionsListCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List detections and controls of policies with their hits, and what exceptions passed over",
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
				Items []web.Detection `json:"items"`
			}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/detections", nil, &list); err != nil {
				return err
			}
			if format == "json" {
				return writeIndented(env.stdout, list.Items)
			}
			table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "DETECTION\tSEVERITY\tDEFAULT\t24 HOURS\t30 DAYS\tEXCEPTIONS\tPASSED OVER\tTITLE")
			for _, d := range list.Items {
				fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", report.Printable(d.ID), cmp.Or(string(d.Severity), "by policy"), cmp.Or(string(d.Effect), "by policy"),
					d.Day, d.Month, len(d.Exceptions), d.Excepted, report.Printable(d.Title))
			}
			return failed(table.Flush())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

func newDetectionsTestCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE…",
		Short: "Check detections and try them on their own examples",
		Args:  someFiles("test"),
		RunE: func(_ *cobra.Command, paths []string) error {
			failures := 0
			for _, path := range paths {
				text, err := os.ReadFile(path)
				if err != nil {
					return failed(err)
				}
				n, err := tryDetections(filepath.Base(path), text)
				if err != nil {
					failures++
					fmt.Fprintln(env.stderr, err)
					continue
				}
				fmt.Fprintf(env.stdout, "%s: %s, right\n", path, countOf(n, "detection"))
			}
			if failures > 0 {
				return refused()
			}
			return nil
		},
	}
}

func newDetectionsReplayCommand(env *environment) *cobra.Command {
	var h huntFlags
	cmd := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Show on which kept events detections would have fired",
		Long: `Holds detections against the events that agents keep, and shows on which ones they
would have fired: try a new detection on what really happened before it is enabled.

Files that only the new detection watches were not looked at, so that their
openings are in no store: such a detection shows nothing until it is enabled.`,
		Args: someFiles("replay"),
		RunE: func(cmd *cobra.Command, paths []string) error {
			text, err := readDetections(paths)
			if err != nil {
				return err
			}
			if _, err := tryDetections(strings.Join(paths, ", "), text); err != nil {
				return usage("%v", err)
			}
			return h.hunt(cmd.Context(), env, "", text)
		},
	}
	h.add(cmd)
	return cmd
}

func someFiles(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("detections %s: name at least one file of detections", command)
		}
		return nil
	}
}
