package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// judgeFlags name a server that keeps the report and judges it by its policies.
type judgeFlags struct {
	server, fingerprint, tokenFile string

	client *client // nil: no server was named
}

func (j *judgeFlags) add(f *pflag.FlagSet) {
	f.StringVar(&j.server, "server", "", "`URL` of a server that keeps the report and judges it by its policies")
	f.StringVar(&j.fingerprint, "fingerprint", "", "with --server: SHA-256 of its certificate authority, as it prints it")
	f.StringVar(&j.tokenFile, "token-file", "", "with --server: `file` with a token for CI (default: the token in BREAKWATER_TOKEN)")
}

// connect reads the flags; nothing was scanned or sent yet.
func (j *judgeFlags) connect(env *environment) error {
	if j.server == "" {
		if j.tokenFile != "" || j.fingerprint != "" {
			return usage("scan: --fingerprint and --token-file belong to --server")
		}
		return nil
	}
	token := strings.TrimSpace(env.getenv("BREAKWATER_TOKEN"))
	if j.tokenFile != "" {
		var err error
		if token, err = readToken(j.tokenFile); err != nil {
			return failed(err)
		}
	}
	if token == "" || strings.ContainsAny(token, " \n") {
		return usage("scan: --server needs a token: put it into BREAKWATER_TOKEN, or name a file with --token-file")
	}
	c, err := newClient(j.server, j.fingerprint)
	if err != nil {
		return err
	}
	c.token = token
	j.client = c
	return nil
}

// judge sends the whole report, and adds the server's verdict to it. What a
// baseline accepts is sent too: a server's policy has its own exceptions.
func (j *judgeFlags) judge(ctx context.Context, rep *report.Report) error {
	if j.client == nil {
		return nil
	}
	var answer struct {
		Verdict *event.Verdict `json:"verdict"`
	}
	if err := j.client.call(ctx, "POST", "api/v1/scans", rep, &answer); err != nil {
		return err
	}
	if answer.Verdict == nil {
		return failed(fmt.Errorf("server %s answered without a verdict: is it older than this program?", j.server))
	}
	rep.Verdict = both(rep.Verdict, answer.Verdict)
	return nil
}

// both allows what each of two verdicts allows. Either may be nil.
func both(a, b *event.Verdict) *event.Verdict {
	if a == nil {
		return b
	}
	out := *b
	out.Allowed = a.Allowed && b.Allowed
	out.Policies = append(slices.Clone(a.Policies), b.Policies...)
	out.Violations = append(slices.Clone(a.Violations), b.Violations...)
	out.Incomplete = append(slices.Clone(a.Incomplete), b.Incomplete...)
	return &out
}
