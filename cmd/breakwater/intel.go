package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func newIntelCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intel",
		Short: "The intelligence bundle: what is known about vulnerabilities",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("intel: one of update, status, verify, export, import, remove, push, pull is needed")
		},
	}
	cmd.AddCommand(newIntelUpdateCommand(env), newIntelStatusCommand(env), newIntelVerifyCommand(env), newIntelExportCommand(env),
		newIntelImportCommand(env), newIntelRemoveCommand(env), newIntelPushCommand(env), newIntelPullCommand(env))
	return cmd
}

func newIntelUpdateCommand(env *environment) *cobra.Command {
	var options intel.Options
	var lists []string
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Fetch advisories and make a new signed bundle of them",
		Long: `Fetch advisories and make a new signed bundle of them.

Sources are OSV.dev, the distributions' own security data, CISA's catalogue of
known exploited vulnerabilities, EPSS and NVD, or one --source that mirrors their
layouts (docs/intelligence.md has the table): https, file:///folder, or http on
this host. From a mirror is taken what it has. Where the publisher lists changes,
only those are fetched.

A source that is away keeps the data of the bundle before; that is said here, in
` + "`intel status`" + ` and in every scan that it matters to. The exit code is 3 when no
source could be read: then the bundle before stays in use.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := env.dataDir()
			if err != nil {
				return failed(err)
			}
			for _, l := range lists {
				name, address, ok := strings.Cut(l, "=")
				if !ok {
					return usage("--list %q: NAME=ADDRESS is needed", l)
				}
				options.Lists = append(options.Lists, intel.List{Name: name, URL: address})
			}
			progress := newIntelProgress(env.stderr)
			options.Data, options.Program, options.Progress = data, version, progress.show
			m, err := intel.Build(cmd.Context(), options)
			progress.clear()
			if err != nil {
				return failed(brief(err))
			}
			fmt.Fprintf(env.stdout, "intelligence bundle %s\n", m.Version)
			if failures := m.Failures(); len(failures) > 0 {
				fmt.Fprintf(env.stderr, "breakwater: %d of %d sources failed; their data are older or missing (breakwater intel status)\n", len(failures), len(m.Sources))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&options.Source, "source", "", "base address of a mirror, instead of the publishers")
	cmd.Flags().StringSliceVar(&options.Ecosystems, "ecosystem", nil,
		"ecosystems by OSV's name or distributions, or all that the source offers (default: those that scans know)")
	cmd.Flags().StringArrayVar(&lists, "list", nil, "hashes, addresses, networks or domains of malicious software to take up, as NAME=ADDRESS; repeatable")
	cmd.Flags().StringVar(&options.Detections, "detections", "", "address of an archive of detections to take up")
	return cmd
}

// brief leaves out what the progress said already, a line a source.
func brief(err error) error {
	type several interface{ Unwrap() []error }
	for {
		join, ok := err.(several) //nolint:errorlint // the chain is walked link by link
		if !ok || len(join.Unwrap()) != 1 {
			break
		}
		err = join.Unwrap()[0]
	}
	failures := errors.Unwrap(err)
	if _, ok := failures.(several); !ok { //nolint:errorlint // as above
		return err
	}
	return errors.New(strings.TrimSuffix(err.Error(), ": "+failures.Error()))
}

func newIntelStatusCommand(env *environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the bundle's version, its sources and their age",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if format != "table" && format != "json" {
				return usage("--format %q: table or json", format)
			}
			data, err := env.dataDir()
			if err != nil {
				return failed(err)
			}
			m, err := intel.Verify(data)
			if err != nil {
				return failed(err)
			}
			if format == "json" {
				enc := json.NewEncoder(env.stdout)
				enc.SetIndent("", "  ")
				return failed(enc.Encode(intelStatus{m, m.Intelligence().Ecosystems}))
			}
			return failed(printIntelStatus(env.stdout, m, time.Now()))
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	return cmd
}

// intelStatus is the JSON form of the status: the manifest as it was signed, and
// what follows from it per ecosystem.
type intelStatus struct {
	intel.Manifest
	Ecosystems map[string]report.Freshness `json:"ecosystems"`
}

func newIntelVerifyCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check the bundle's signature and content",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			data, err := env.dataDir()
			if err != nil {
				return failed(err)
			}
			m, err := intel.Verify(data)
			if err != nil {
				return failed(err)
			}
			_, err = fmt.Fprintf(env.stdout, "intelligence bundle %s: signature and content are right\n", m.Version)
			return failed(err)
		},
	}
}

func printIntelStatus(w io.Writer, m intel.Manifest, now time.Time) error {
	fmt.Fprintf(w, "version  %s\nbuilt    %s\nschema   %d\nsize     %s\n\n", m.Version, m.Built.Format(time.RFC3339), m.Schema, amount(m.Size))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SOURCE\tRECORDS\tNEWEST\tCONFIRMED\tLICENCE\tPROBLEMS")
	for _, s := range m.Sources {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", s.Name, s.Records, day(s.Updated), ago(s.Fetched, now), cmp.Or(s.Licence, "not stated"), sourceProblems(s))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(table, "\nECOSYSTEM\tVULNERABILITIES\tSINCE")
	ecosystems := m.Intelligence().Ecosystems
	for _, name := range slices.Sorted(maps.Keys(ecosystems)) {
		fmt.Fprintf(table, "%s\t%d\t%s\n", name, ecosystems[name].Advisories, day(ecosystems[name].Updated))
	}
	return table.Flush()
}

func sourceProblems(s intel.Source) string {
	var problems []string
	if s.Error != "" {
		problems = append(problems, s.Error)
	}
	if s.Skipped > 0 {
		problems = append(problems, fmt.Sprintf("%s left out, e.g. %s", plural(s.Skipped, "malformed record"), s.Examples[0]))
	}
	if len(problems) == 0 {
		return "-"
	}
	return strings.Join(problems, "; ")
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateOnly)
}

func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(d.Hours()/24))
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// amount of bytes, for people.
func amount(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%d kB", (n+999)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// intelProgress writes one line a source, and on a terminal a line that moves
// while a source is fetched.
type intelProgress struct {
	w        io.Writer
	terminal bool
	shown    time.Time
}

func newIntelProgress(w io.Writer) *intelProgress {
	f, ok := w.(*os.File)
	return &intelProgress{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *intelProgress) show(now intel.Progress) {
	if now.Stage == intel.StageDone {
		p.clear()
		fmt.Fprintf(p.w, "%-14s %s\n", now.Source, sourceLine(now.Result))
		return
	}
	if !p.terminal || now.Done > 0 && time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	line := fmt.Sprintf("%-14s %s", now.Source, now.Stage)
	if now.Done > 0 {
		line += " " + amount(now.Done)
	}
	if now.Total > 0 {
		line += " of " + amount(now.Total)
	}
	fmt.Fprint(p.w, "\r\033[K"+line)
}

// clear removes the moving line.
func (p *intelProgress) clear() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
}

func sourceLine(s intel.Source) string {
	switch {
	case s.Error != "" && s.Fetched.IsZero():
		return "failed: " + s.Error
	case s.Error != "":
		return fmt.Sprintf("failed, data of %s kept: %s", day(s.Fetched), s.Error)
	}
	line := plural(s.Records, "record")
	if !s.Updated.IsZero() {
		line += ", newest " + day(s.Updated)
	}
	if s.Skipped > 0 {
		line += fmt.Sprintf(", %d malformed left out (%s)", s.Skipped, s.Examples[0])
	}
	return line
}
