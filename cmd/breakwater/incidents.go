package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

func newIncidentsCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var filter incidentFlags
	cmd := &cobra.Command{
		Use:   "incidents",
		Short: "What happened: incidents of one process tree are one story",
		Long: `Lists what happened on all hosts, the newest first: acts of one process tree in
one container are one story, under the number of its first incident.
` + "`breakwater incidents show ID`" + ` tells it step by step.

On the server's own host these commands find the server by its data folder;
elsewhere give --server, --fingerprint and --token-file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := filter.query()
			if err != nil {
				return err
			}
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			var list struct {
				Items []store.Story `json:"items"`
			}
			if err := c.get(cmd.Context(), "/api/v1/stories", query, &list); err != nil {
				return err
			}
			if filter.format == "json" {
				return writeIndented(env.stdout, list.Items)
			}
			return failed(writeStories(env.stdout, list.Items))
		},
	}
	flags.add(cmd)
	filter.add(cmd)
	cmd.AddCommand(newIncidentsShowCommand(env), newIncidentsExceptCommand(env), newIncidentsExceptionsCommand(env), newIncidentsUnexceptCommand(env), newIncidentsEvidenceCommand(env))
	return cmd
}

// incidentFlags are the filters of the console's page.
type incidentFlags struct {
	host, container, detection, severity, outcome, text, since, format string
	limit                                                              int
}

func (f *incidentFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.host, "host", "", "only of this `host`")
	cmd.Flags().StringVar(&f.container, "container", "", "only of this container: `name`, id or the beginning of one")
	cmd.Flags().StringVar(&f.detection, "detection", "", "only those of this detection's `id`")
	cmd.Flags().StringVar(&f.severity, "severity", "", "this `severity` or worse: low, medium, high, critical")
	cmd.Flags().StringVar(&f.outcome, "outcome", "", "prevented, killed, detected or \"not covered\"")
	cmd.Flags().StringVar(&f.text, "text", "", "a part of a sentence")
	cmd.Flags().StringVar(&f.since, "since", "", "how far back: 90m, 24h, 7d (default: all)")
	cmd.Flags().IntVar(&f.limit, "limit", 50, "at most so many")
	cmd.Flags().StringVar(&f.format, "format", "table", "table or json")
}

func (f *incidentFlags) query() (url.Values, error) {
	if f.limit < 1 || f.limit > store.MaxPage {
		return nil, usage("--limit=%d: want 1 to %d", f.limit, store.MaxPage)
	}
	if err := tableOrJSON(f.format); err != nil {
		return nil, err
	}
	q := url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, value := range map[string]string{"host": f.host, "container": f.container, "detection": f.detection,
		"severity": f.severity, "outcome": f.outcome, "text": f.text, "since": f.since} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q, nil
}

func tableOrJSON(format string) error {
	if format != "table" && format != "json" {
		return usage("--format=%s: want table or json", format)
	}
	return nil
}

func writeIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return failed(e.Encode(v))
}

func writeStories(w io.Writer, list []store.Story) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tWHEN\tSEVERITY\tSTEPS\tSTOPPED\tWHERE\tWHAT")
	for _, s := range list {
		where := s.Newest.Host
		if c := s.Newest.Container; c != nil {
			where = cmp.Or(c.Name, c.ID[:min(12, len(c.ID))]) + "@" + where
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%d\t%s\t%s\n", s.ID, s.Newest.Time.UTC().Format(time.RFC3339), report.Printable(string(s.Severity)), s.Steps, s.Stopped, report.Printable(where), report.Printable(s.Sentence))
	}
	return table.Flush()
}

func newIncidentsShowCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var format string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Tell the story of an incident step by step: when, what, what was done, why",
		Args:  oneIncident("show"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := tableOrJSON(format); err != nil {
				return err
			}
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			var whole toldStory
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/stories/"+args[0], nil, &whole); err != nil {
				return err
			}
			if format == "json" {
				return writeIndented(env.stdout, whole)
			}
			return failed(writeStory(env.stdout, whole))
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&format, "format", "table", "table (text) or json")
	return cmd
}

// oneIncident wants the number of an incident.
func oneIncident(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("incidents %s: name one incident by its number, as `breakwater incidents` shows it", command)
		}
		if _, err := strconv.ParseUint(args[0], 10, 63); err != nil {
			return usage("incidents %s %s: an incident is named by its number, as `breakwater incidents` shows it", command, args[0])
		}
		return nil
	}
}

// toldStory is a story with its incidents.
type toldStory struct {
	store.Story
	Incidents []store.Incident `json:"incidents"`
}

func writeStory(w io.Writer, s toldStory) error {
	text := &strings.Builder{}
	line := func(format string, args ...any) { fmt.Fprintln(text, report.Printable(fmt.Sprintf(format, args...))) }
	line("%s", s.Sentence)
	line("Severity %s, %s, %d stopped, since %s.", s.Severity, countOf(s.Steps, "step"), s.Stopped, s.Started.UTC().Format(time.RFC3339))
	if len(s.Tactics) > 0 {
		line("ATT&CK: %s.", strings.Join(s.Tactics, ", "))
	}
	for n, i := range s.Incidents {
		line("")
		line("%d. %s  incident %d, %s: %s", n+1, i.Time.UTC().Format("15:04:05.000"), i.ID, i.Severity, i.Sentence)
		line("   %s%s", cmp.Or(i.Detection, "policy "+string(i.Decision.Control)), attackIDs(i.Attack))
		line("   done: %s%s", i.Decision.Outcome, doneBy(i))
		line("   why:  %s", cmp.Or(i.Decision.Why, "not told"))
	}
	if s.Counted > 0 {
		line("")
		line("%d further acts were like steps above and got none of their own.", s.Counted)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func attackIDs(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " (ATT&CK " + strings.Join(ids, ", ") + ")"
}

func doneBy(i store.Incident) string {
	text := ""
	if m := i.Decision.Mechanism; m != "" {
		text += " by " + m
	}
	if i.Decision.Audit {
		text += ", policy only records this"
	}
	for _, r := range i.Responses {
		word := "done"
		if !r.Done {
			word = "failed"
		}
		if r.Message != "" {
			word += ": " + r.Message
		}
		text += fmt.Sprintf("; %s %s", effectWord(r.Effect), word)
	}
	return text
}

func effectWord(e event.Effect) string { return cmp.Or(string(e), "response") }
