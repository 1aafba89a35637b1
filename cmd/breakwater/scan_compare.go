package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/breakwater-sec/breakwater/internal/advice"
	"github.com/breakwater-sec/breakwater/internal/baseline"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// compareFlags hold a scan against what was before, or could be instead.
type compareFlags struct {
	other, base   string
	file, write   string
	until, reason string
	known         *baseline.Baseline
	lastDay       time.Time
	maxSeverity   string
}

// defaultAccepted is how long --write-baseline accepts without --until.
const defaultAccepted = 90 * 24 * time.Hour

func (c *compareFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.maxSeverity, "max-severity", "", "without a policy file: refuse what has a vulnerability above this severity")
	f.StringVar(&c.other, "compare", "", "say what changed since OTHER: a JSON report of an earlier scan, or another target")
	f.StringVar(&c.base, "base", "", "say what building on this base image instead would change")
	f.StringVar(&c.file, "baseline", "", "file with what is accepted until a day: it is told, and policy does not judge it")
	f.StringVar(&c.write, "write-baseline", "", "write such a file, which accepts all that was found")
	f.StringVar(&c.until, "until", "", "with --write-baseline: the last day, as 2027-03-01 (default: in 90 days)")
	f.StringVar(&c.reason, "reason", "", "with --write-baseline: why it is accepted")
}

// check reads the flags and the baseline; nothing was scanned yet.
func (c *compareFlags) check() error {
	words := []string{"", "none", "negligible", "low", "medium", "high", "critical"}
	if !slices.Contains(words, strings.ToLower(c.maxSeverity)) {
		return usage("scan: --max-severity %q is none of %s", c.maxSeverity, strings.Join(words[1:], ", "))
	}
	var err error
	if c.lastDay = time.Now().UTC().Add(defaultAccepted); c.until != "" {
		if c.lastDay, err = time.Parse(time.DateOnly, c.until); err != nil {
			return usage("scan: --until %q is not a date: write it as 2027-03-01", c.until)
		}
	}
	if c.write == "" && (c.until != "" || c.reason != "") {
		return usage("scan: --until and --reason belong to --write-baseline")
	}
	if c.file == "" {
		return nil
	}
	data, err := readBounded(c.file, baseline.MaxSize)
	if err == nil {
		c.known, err = baseline.Parse(data)
	}
	if err != nil {
		return failed(fmt.Errorf("baseline %s: %w", c.file, err))
	}
	return nil
}

// policies are those of the short forms.
func (c *compareFlags) policies() ([]*policy.Policy, error) {
	if c.maxSeverity == "" {
		return nil, nil
	}
	return policy.Parse("--max-severity", []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: max-severity}\nimage:\n  maxSeverity: "+strings.ToLower(c.maxSeverity)+"\n"))
}

// acceptingJudge judges what a baseline does not accept.
type acceptingJudge struct {
	scan.Judge
	known *baseline.Baseline
}

func (j acceptingJudge) Image(now time.Time, facts policy.ImageFacts) event.Verdict {
	return j.Judge.Image(now, j.known.Facts(now, facts))
}

// judge is the judge of the policies, which may be nil.
func (c *compareFlags) judge(set *policy.Set) scan.Judge {
	switch {
	case set == nil:
		return nil
	case c.known != nil:
		return acceptingJudge{set, c.known}
	}
	return set
}

// finish adds to a report what it is held against, and advice on what is left.
func (c *compareFlags) finish(ctx context.Context, rep *report.Report, o scan.Options) error {
	if c.known != nil {
		c.known.Apply(rep)
		if n := c.known.Ended(rep.Time); n > 0 {
			rep.Notes = append(rep.Notes, fmt.Sprintf("%d entries of the baseline %s ended and accept nothing any more", n, c.file))
		}
	}
	rep.Advice = advice.Of(rep)
	if c.base != "" {
		candidate, err := scanOther(ctx, c.base, o)
		if err != nil {
			return err
		}
		advice.Try(rep, candidate)
		if rep.Advice == nil || rep.Advice.Base == nil {
			rep.Notes = append(rep.Notes, "nothing was found in layers of a base image: --base "+c.base+" could not be compared")
		}
	}
	if c.other != "" {
		old, err := readReport(c.other)
		if err != nil {
			return err
		}
		if old == nil {
			if old, err = scanOther(ctx, c.other, o); err != nil {
				return err
			}
		}
		rep.Compared = report.Compare(old, rep)
	}
	return c.writeBaseline(rep)
}

func (c *compareFlags) writeBaseline(rep *report.Report) error {
	if c.write == "" {
		return nil
	}
	var out bytes.Buffer
	if err := baseline.Write(&out, rep, c.lastDay, c.reason); err != nil {
		return err
	}
	return os.WriteFile(c.write, out.Bytes(), 0o644)
}

// scanOther scans another image in the same way.
func scanOther(ctx context.Context, target string, o scan.Options) (*report.Report, error) {
	o.Target = target
	return scan.Image(ctx, o)
}

const maxReport = 1 << 30 // bytes

// readReport reads a JSON report; nil when the name is not one's.
func readReport(name string) (*report.Report, error) {
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var first [1]byte
	if _, err := io.ReadFull(f, first[:]); err != nil || first[0] != '{' {
		return nil, nil //nolint:nilerr // an archive, then
	}
	data, err := readBounded(name, maxReport)
	if err != nil {
		return nil, err
	}
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: is no report: %w", name, err)
	}
	if r.Schema != report.SchemaVersion {
		return nil, fmt.Errorf("%s: is no report of `breakwater scan --format json`, schema %d", name, report.SchemaVersion)
	}
	return &r, nil
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}
