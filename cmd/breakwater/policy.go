package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func newPolicyCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check policies, and try them on what they would judge",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usage("policy: one of validate, test is needed") },
	}
	cmd.AddCommand(newPolicyValidateCommand(env), newPolicyTestCommand(env))
	return cmd
}

func newPolicyValidateCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE…",
		Short: "Check policy files: every mistake with file, line and column",
		Long: `Check policy files. Every mistake is printed with file, line and column.
FILE "-" is standard input.

Exit codes: 0 every file is right, 1 some file is not, 2 wrong usage,
3 some file could not be read.`,
		Args: atLeastOneFile,
		RunE: func(_ *cobra.Command, files []string) error { return validatePolicies(env, files) },
	}
}

func atLeastOneFile(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("policy %s: name at least one policy file", cmd.Name())
	}
	return nil
}

// validatePolicies checks each file by itself, and that all of them can be in
// force together.
func validatePolicies(env *environment, files []string) error {
	rules, err := detect.Load(content.Detections())
	if err != nil {
		return failed(err)
	}
	known := rules.Known()
	var all []*policy.Policy
	wrong := false
	for _, file := range files {
		policies, err := readPolicies(env, file)
		var mistakes document.Errors
		switch {
		case errors.As(err, &mistakes):
			wrong = true
			fmt.Fprintln(env.stderr, mistakes)
			continue
		case err != nil:
			return failed(err)
		}
		all = append(all, policies...)
		for _, p := range policies {
			if err := p.CheckDetections(known); err != nil {
				wrong = true
				fmt.Fprintln(env.stderr, err)
				continue
			}
			fmt.Fprintf(env.stdout, "%s:%d: policy %s is right (%s)\n", p.File, p.Line, p.Name, sections(p))
		}
	}
	if wrong {
		return refused()
	}
	if _, err := policy.NewSet(0, all); err != nil {
		fmt.Fprintln(env.stderr, err)
		return refused()
	}
	return nil
}

func sections(p *policy.Policy) string {
	if names := p.Sections(); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "no section: it judges nothing"
}

func readPolicies(env *environment, file string) ([]*policy.Policy, error) {
	name, data, err := readInput(env, file)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	return policy.Parse(name, data)
}

// readInput reads a file or, for "-", standard input, up to what a document
// may have and a byte more, so that what is too long is seen as such.
func readInput(env *environment, file string) (name string, data []byte, err error) {
	if file == "-" {
		data, err = io.ReadAll(io.LimitReader(env.stdin, document.MaxBytes+1))
		return "stdin", data, err
	}
	f, err := os.Open(file)
	if err != nil {
		return file, nil, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, document.MaxBytes+1))
	return file, data, err
}

type policyTest struct {
	image, start string
	stage, host  string
	at, format   string
}

func newPolicyTestCommand(env *environment) *cobra.Command {
	var test policyTest
	cmd := &cobra.Command{
		Use:   "test FILE… (--image REPORT | --start FACTS)",
		Short: "Say what policies would decide about an image or a start request",
		Long: `Say what policies would decide, without a server, an agent or an engine.

--image takes a report of ` + "`breakwater scan --format json`" + `; --start takes the
parameters of a container as JSON, for example
  {"image": {"references": ["nginx:1"]}, "privileged": true,
   "mounts": [{"source": "/etc", "target": "/etc", "type": "bind"}]}

Exit codes: 0 allowed, 1 refused, 2 wrong usage, 3 a file is unreadable or wrong.`,
		Args: atLeastOneFile,
		RunE: func(_ *cobra.Command, files []string) error { return test.run(env, files) },
	}
	flags := cmd.Flags()
	flags.StringVar(&test.image, "image", "", "judge the image of this scan report (JSON)")
	flags.StringVar(&test.start, "start", "", "judge these start parameters (JSON)")
	flags.StringVar(&test.stage, "stage", "", "stage to judge for: development, staging, production")
	flags.StringVar(&test.host, "host", "", "host to judge for")
	flags.StringVar(&test.at, "at", "", "day to judge for, as 2027-03-01 (default: today); exceptions end")
	flags.StringVar(&test.format, "format", "table", "table or json")
	return cmd
}

func (t policyTest) run(env *environment, files []string) error {
	if (t.image == "") == (t.start == "") {
		return usage("policy test: give either --image or --start")
	}
	if t.format != "table" && t.format != "json" {
		return usage("policy test: --format %q is neither table nor json", t.format)
	}
	now := time.Now()
	if t.at != "" {
		var err error
		if now, err = time.Parse(time.DateOnly, t.at); err != nil {
			return usage("policy test: --at %q is not a day: write it as 2027-03-01", t.at)
		}
	}
	set, err := readSet(env, files)
	if err != nil {
		return failed(err)
	}
	verdict, err := t.judge(set, now)
	if err != nil {
		return failed(err)
	}
	if err := t.print(env.stdout, verdict); err != nil {
		return failed(err)
	}
	if !verdict.Allowed {
		return refused()
	}
	return nil
}

func readSet(env *environment, files []string) (*policy.Set, error) {
	var all []*policy.Policy
	for _, file := range files {
		policies, err := readPolicies(env, file)
		if err != nil {
			return nil, err
		}
		all = append(all, policies...)
	}
	return policy.NewSet(0, all)
}

func (t policyTest) judge(set *policy.Set, now time.Time) (event.Verdict, error) {
	if t.start != "" {
		var facts policy.StartFacts
		if err := readFacts(t.start, &facts); err != nil {
			return event.Verdict{}, err
		}
		t.fill(&facts.Subject)
		return set.Start(now, facts), nil
	}
	var scanned report.Report
	if err := readFacts(t.image, &scanned); err != nil {
		return event.Verdict{}, err
	}
	if scanned.Schema != report.SchemaVersion {
		return event.Verdict{}, fmt.Errorf("%s: is not a scan report of schema %d: make one with `breakwater scan --format json`", t.image, report.SchemaVersion)
	}
	facts := scanned.Facts()
	t.fill(&facts.Subject)
	return set.Image(now, facts), nil
}

func (t policyTest) fill(s *policy.Subject) {
	if t.stage != "" {
		s.Stage = t.stage
	}
	if t.host != "" {
		s.Host = t.host
	}
}

// maxFacts bounds a report or a set of facts, in bytes.
const maxFacts = 256 << 20

func readFacts(file string, into any) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFacts))
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: byte %d: %w", file, decoder.InputOffset(), err)
	}
	return nil
}

func (t policyTest) print(w io.Writer, v event.Verdict) error {
	if t.format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	}
	var b strings.Builder
	b.WriteString(verdictLine(v))
	for _, x := range v.Violations {
		fmt.Fprintf(&b, "  %s %s (%s, policy %s, %s)\n", mark(x), x.Message, x.Rule, x.Policy, x.Source)
		if x.Remediation != "" {
			fmt.Fprintf(&b, "    fix: %s\n", x.Remediation)
		}
	}
	for _, sentence := range v.Incomplete {
		fmt.Fprintf(&b, "  not judged: %s\n", sentence)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictLine(v event.Verdict) string {
	word, by := "allowed", v.Policies
	if !v.Allowed {
		word, by = "refused", nil
		for _, x := range v.Violations {
			if !x.Audit && !slices.Contains(by, x.Policy) {
				by = append(by, x.Policy)
			}
		}
	}
	if len(v.Policies) == 0 {
		return word + ": no policy covers it\n"
	}
	if len(by) == 0 { // something could not be judged
		return word + "\n"
	}
	return fmt.Sprintf("%s by %s\n", word, strings.Join(by, ", "))
}

func mark(v event.Violation) string {
	if v.Audit {
		return "recorded:"
	}
	return "refused:"
}
