package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

type scanCommand struct {
	policies      []string
	trust         trustFlag
	source        sourceFlags
	out           outputFlags
	compare       compareFlags
	remote        judgeFlags
	intel, stage  string
	quiet, verify bool
	secrets       bool
	licenses      bool
	programs      bool
	malware       string
	yara          []string
	vex           []string
	timeout       time.Duration
}

func newScanCommand(env *environment) *cobra.Command {
	var s scanCommand
	cmd := &cobra.Command{
		Use:   "scan TARGET",
		Short: "What an image is made of, what is known about it, and what policy says",
		Long: `Reads an image, lists its packages with the layer that brought each one, matches
them with the intelligence bundle and judges the image by policy.

` + scanTargets + `

` + formatsHelp() + `
Exit codes: 0 passed, 1 policy said no, 2 wrong usage, 3 could not scan,
4 server unreachable.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("scan: name one image or archive")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(cmd.Context(), env, args[0]) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&s.policies, "policy", nil, "policy file to judge by; may be given several times")
	s.out.add(f)
	s.compare.add(f)
	s.remote.add(f)
	s.source.add(f)
	f.StringVar(&s.intel, "intel", "", "data folder with the intelligence bundle (default: the data folder)")
	s.trust.add(f)
	f.StringVar(&s.stage, "stage", "", "stage to judge for: development, staging, production")
	f.DurationVar(&s.timeout, "timeout", scan.DefaultTimeout, "longest time that reading the image may take")
	f.BoolVar(&s.verify, "verify", false, "hash every layer of an archive: refuse one whose content is not what its config names")
	f.BoolVar(&s.secrets, "secrets", true, "look for credentials in files, environment, labels and build steps")
	f.BoolVar(&s.licenses, "licenses", false, "look for the licences of packages in licence files and Debian's copyright files")
	f.BoolVar(&s.programs, "programs", false, "look at programs: those that intelligence knows as malicious, miners and packed ones; on with --malware")
	f.StringVar(&s.malware, "malware", "", "address of a ClamAV daemon to show every file to: clamd://HOST:PORT or clamd:///PATH/TO/SOCKET")
	f.StringArrayVar(&s.yara, "yara", nil, "`FILE` of YARA rules to evaluate on every file of at most 8 MiB; may be given several times; needs a build with YARA")
	f.StringArrayVar(&s.vex, "vex", nil, "file that says which findings count: OpenVEX, CSAF or CycloneDX as JSON; may be given several times")
	f.BoolVar(&s.quiet, "no-progress", false, "do not show progress on a terminal")
	return cmd
}

func (s *scanCommand) run(ctx context.Context, env *environment, target string) error {
	if err := cmp.Or(s.out.check(), s.compare.check(), s.remote.connect(env)); err != nil {
		return err
	}
	rules, err := s.rules()
	if err != nil {
		return err
	}
	judge, err := s.judge(env)
	if err != nil {
		return failed(err)
	}
	matcher, done, err := s.matcher(ctx, env)
	if err != nil {
		return failed(err)
	}
	defer done()
	statements, notes, err := s.statements()
	if err != nil {
		return failed(err)
	}
	progress := newScanProgress(env.stderr, s.quiet)
	options := scan.Options{Target: target, Tool: "breakwater " + version, Matcher: matcher, Stage: s.stage, Timeout: s.timeout, Verify: s.verify, Progress: progress.show}
	options.Look.Secrets, options.VEX, options.Rules = s.secrets, statements, rules
	options.Look.Licenses = s.licenses || judge != nil && judge.LooksFor(event.LookedLicenses)
	options.Look.Programs = s.programs || s.malware != "" || judge != nil && judge.LooksFor(event.LookedMalware)
	if hashes, ok := matcher.(scan.Hashes); ok {
		options.Hashes = hashes
	}
	if err := s.clamd(ctx, &options); err != nil {
		return err
	}
	options.Judge = s.compare.judge(judge)
	if err := s.source.options(env, &options); err != nil {
		return err
	}
	if options.Trust, err = s.trust.read(env); err != nil {
		return failed(err)
	}
	rep, err := scan.Image(ctx, options)
	progress.clear()
	if err != nil {
		return failed(err)
	}
	if err := s.source.isFor(rep.Image.Platform); err != nil {
		return failed(fmt.Errorf("%s: %w", options.Target, err))
	}
	rep.Notes = append(rep.Notes, notes...)
	if err := s.remote.judge(ctx, rep); err != nil {
		return err
	}
	if err := s.compare.finish(ctx, rep, options); err != nil {
		return failed(err)
	}
	if err := s.out.write(env, rep); err != nil {
		return failed(err)
	}
	if rep.Verdict != nil && !rep.Verdict.Allowed {
		return refused()
	}
	return nil
}

func (s *scanCommand) judge(env *environment) (*policy.Set, error) {
	all, err := s.compare.policies()
	if err != nil || len(s.policies)+len(all) == 0 {
		return nil, err
	}
	for _, file := range s.policies {
		policies, err := readPolicies(env, file)
		if err != nil {
			return nil, err
		}
		all = append(all, policies...)
	}
	return policy.NewSet(0, all)
}

// matcher opens the bundle. Without one a scan goes on, and says what it could
// not judge; a bundle that is asked for by name, or is there and not right, is
// an error.
func (s *scanCommand) matcher(ctx context.Context, env *environment) (scan.Matcher, func(), error) {
	dir := s.intel
	if dir == "" {
		var err error
		if dir, err = env.dataDir(); err != nil {
			return nil, func() {}, nil //nolint:nilerr // no data folder, no bundle
		}
	}
	bundle, err := intel.Open(ctx, dir)
	switch {
	case errors.Is(err, intel.ErrNoBundle) && s.intel == "":
		return nil, func() {}, nil
	case err != nil:
		return nil, nil, err
	}
	return bundle, func() { _ = bundle.Close() }, nil
}

// clamd opens the malware engine. One that does not answer is a gap, by which
// policy decides.
func (s *scanCommand) clamd(ctx context.Context, o *scan.Options) error {
	if s.malware == "" {
		return nil
	}
	c, err := malware.OpenClamd(ctx, s.malware)
	switch {
	case errors.Is(err, malware.ErrAddress):
		return usage("scan: --malware: %v", err)
	case err != nil:
		// What only hashes and evidence say is not what was asked for.
		o.Gaps, o.Hashes = append(o.Gaps, "malware was not looked for: "+err.Error()), nil
		o.MalwareAway = true
	default:
		o.Malware = c
	}
	return nil
}

// rules compiles the files of --yara, before anything of an image is read.
func (s *scanCommand) rules() (*malware.RuleSet, error) {
	if len(s.yara) == 0 {
		return nil, nil
	}
	files, err := malware.ReadRules(s.yara)
	if err != nil {
		return nil, ruleError(err)
	}
	set, err := malware.CompileRules(files)
	return set, ruleError(err)
}

func ruleError(err error) error {
	if errors.Is(err, malware.ErrRules) {
		return usage("scan: --yara: %v", err)
	}
	return failed(err)
}

// scanProgress is one moving line on a terminal, nothing elsewhere.
type scanProgress struct {
	w     io.Writer
	on    bool
	shown time.Time
}

func newScanProgress(w io.Writer, quiet bool) *scanProgress {
	return &scanProgress{w: w, on: !quiet && isTerminal(w)}
}

func (p *scanProgress) show(now image.Progress) {
	if !p.on || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	layers := fmt.Sprintf("layer %d", now.Layers+1)
	if now.Total > 0 {
		layers = fmt.Sprintf("%d of %d layers", now.Layers, now.Total)
	}
	fmt.Fprintf(p.w, "\r\033[Kreading: %s, %d MB", layers, now.Bytes/1_000_000)
}

func (p *scanProgress) clear() {
	if p.on {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
