package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/check"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

type checkCommand struct {
	format, output   string
	severity, failOn string
	kind             string
	policies         []string
	stage            string
}

func newCheckCommand(env *environment) *cobra.Command {
	var c checkCommand
	cmd := &cobra.Command{
		Use:   "check FILE|DIR…",
		Short: "What is wrong with Dockerfiles, Kubernetes manifests and Compose files",
		Long: `Judges files that say how containers are built and run, before they are: each
result has its file and line, what to change, and why. Of a folder the files that
are one of these are judged; FILE "-" is standard input, such as what
` + "`helm template`" + ` writes.

A comment in a file leaves a result out, with a reason:
  # breakwater:ignore CHECK [until YYYY-MM-DD] REASON
at the end of the line or on the line before; breakwater:ignore-file for the file.

Exit codes: 0 passed, 1 policy or --fail-on said no, 2 wrong usage, 3 a file
could not be read.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("check: name at least one file or folder")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), env, args) },
	}
	f := cmd.Flags()
	f.StringVar(&c.format, "format", "table", "table, json or sarif")
	f.StringVar(&c.output, "output", "", "write the result to this file instead of standard output")
	f.StringVar(&c.severity, "severity", "low", "lowest severity that is shown: low, medium, high, critical")
	f.StringVar(&c.failOn, "fail-on", "", "exit with 1 when something of this severity or above is found")
	f.StringArrayVar(&c.policies, "policy", nil, "policy file whose image.misconfigurations decides; may be given several times")
	f.StringVar(&c.stage, "stage", "", "stage to judge for: development, staging, production")
	f.StringVar(&c.kind, "type", "", "what the files are, instead of telling by name and content: dockerfile, kubernetes, compose")
	return cmd
}

func (c *checkCommand) run(ctx context.Context, env *environment, args []string) error {
	if err := c.validate(); err != nil {
		return err
	}
	checks, err := check.Load(content.Checks())
	if err != nil {
		return failed(err)
	}
	judge, err := policySet(env, c.policies)
	if err != nil {
		return failed(err)
	}
	now := time.Now()
	result, err := checks.Files(ctx, args, check.Options{Kind: c.kind, Now: now, Stdin: env.stdin})
	if err != nil {
		return failed(err)
	}
	out := &report.Checked{
		Schema: report.SchemaVersion, Tool: "breakwater " + version, Time: now.UTC(), Files: result.Files,
		Misconfigurations: atLeast(result.Found, c.severity), Ignored: result.Ignored, Gaps: result.Gaps,
	}
	if judge != nil {
		verdict := judge.Files(now, policy.Subject{Stage: c.stage}, result.Found, result.Ignored)
		out.Verdict = &verdict
	}
	if err := c.write(env, out); err != nil {
		return failed(err)
	}
	if len(result.Files) == 0 { // what a pipeline asked about was not looked at
		return failed(fmt.Errorf("%s: nothing there could be checked: name Dockerfiles, Kubernetes manifests or Compose files, or a folder that holds some", strings.Join(args, ", ")))
	}
	if c.failOn != "" && len(atLeast(result.Found, c.failOn)) > 0 || out.Verdict != nil && !out.Verdict.Allowed {
		return refused()
	}
	return nil
}

// policySet reads policy files; nil when none is named.
func policySet(env *environment, files []string) (*policy.Set, error) {
	if len(files) == 0 {
		return nil, nil
	}
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

func (c *checkCommand) validate() error {
	oneOf := func(flag, value string, words ...string) error {
		if slices.Contains(words, value) {
			return nil
		}
		return usage("check: --%s %q is none of %s", flag, value, strings.Join(words, ", "))
	}
	severities := []string{"low", "medium", "high", "critical"}
	if err := oneOf("format", c.format, "table", "json", "sarif"); err != nil {
		return err
	}
	if err := oneOf("severity", c.severity, severities...); err != nil {
		return err
	}
	if c.failOn != "" {
		if err := oneOf("fail-on", c.failOn, severities...); err != nil {
			return err
		}
	}
	if c.kind != "" {
		return oneOf("type", c.kind, check.Kinds()...)
	}
	return nil
}

// atLeast keeps what is as severe as the word says, or more; never nil.
func atLeast(found []event.Misconfiguration, word string) []event.Misconfiguration {
	kept := []event.Misconfiguration{}
	for _, m := range found {
		if m.Severity.Rank() >= event.Severity(word).Rank() {
			kept = append(kept, m)
		}
	}
	return kept
}

// write renders first, so that a file is only touched for a whole result.
func (c *checkCommand) write(env *environment, out *report.Checked) error {
	var buf bytes.Buffer
	if err := c.render(env, &buf, out); err != nil {
		return err
	}
	if c.output != "" {
		return os.WriteFile(c.output, buf.Bytes(), 0o644)
	}
	_, err := env.stdout.Write(buf.Bytes())
	return err
}

func (c *checkCommand) render(env *environment, w io.Writer, out *report.Checked) error {
	switch c.format {
	case "json":
		return out.JSON(w)
	case "sarif":
		return out.SARIF(w)
	}
	return out.Table(w, c.output == "" && isTerminal(env.stdout) && env.getenv("NO_COLOR") == "")
}
