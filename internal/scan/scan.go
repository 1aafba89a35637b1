// Package scan judges one image: it reads the image in a confined child
// process, matches what it finds with intelligence, asks policy, and returns
// one report. It is the same engine in the command line, the agent and the
// server.
//
// A program that uses it must hand its start over to [Reader] when [IsReader]
// says so: the confined child is the own binary.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/signature"
	"github.com/breakwater-sec/breakwater/internal/vex"
)

// Matcher finds the vulnerabilities of packages. Gaps are sentences about what
// it could not judge; used is nil when it knows nothing at all.
type Matcher interface {
	Match(ctx context.Context, distro report.Distro, packages []event.Package) (findings []event.Finding, used *report.Intelligence, gaps []string, err error)
}

// Hashes says whether a file is known as malicious by its SHA-256 in hex: its
// name, which may be empty, and who says so. Count is how many it knows.
type Hashes interface {
	Malware(sha256 string) (name, source string, ok bool)
	MalwareCount() int
}

// Judge is the image section of a policy set.
type Judge interface {
	Image(now time.Time, facts policy.ImageFacts) event.Verdict
}

// Options say what to scan and with what.
type Options struct {
	// Target names the image. See ParseTarget.
	Target string
	// Engine is the socket of a Docker engine, unix:///…; empty means
	// DefaultEngine.
	Engine string
	// Containerd is containerd's socket and Storage the folder of Podman's and
	// CRI-O's images; empty means where they usually are.
	Containerd, Storage string
	// Registry asks registries; nil asks anonymously.
	Registry *image.Registry
	// Platform chooses from an image for several, as os/arch[/variant]; empty
	// means this host's.
	Platform string
	Tool     string // "breakwater <version>", for the report
	// Cache of what layers hold; nil for none.
	Cache *Cache
	// Look says what to look for besides packages; Malware, which may be nil,
	// is asked about the content of files.
	Look    Look
	Malware Scanner
	// Hashes knows malicious programs; it is asked when Look.Programs is set. It
	// may be nil.
	Hashes Hashes
	// Rules are YARA rules that were compiled by this program; nil for none.
	Rules *malware.RuleSet
	// MalwareAway: a malware engine that was asked for does not answer, so that no
	// other one counts as having looked for malware.
	MalwareAway bool
	// Gaps are what the caller knows that cannot be judged.
	Gaps []string
	// Matcher may be nil: then the packages are listed, and a gap says that
	// their vulnerabilities were not judged.
	Matcher Matcher
	// VEX holds statements on which findings count; nil for none.
	VEX *vex.Set
	// Judge may be nil: then the report has no verdict.
	Judge Judge
	// Trust says whose signatures count; nil: they are not looked for.
	Trust *signature.Trust
	// Stage and Host are facts for the policy's scope and mode.
	Stage, Host string
	// Verify hashes every layer of an archive; see image.Options. An engine's
	// own export is taken as what it says.
	Verify bool
	Limits image.Limits
	// Content bounds how much of one file is held in memory to look into it; 0
	// means DefaultContent.
	Content int64
	// Timeout bounds the reading of the image; 0 means DefaultTimeout.
	Timeout time.Duration
	// Progress may be nil. It is called from one goroutine.
	Progress func(image.Progress)
}

func (o *Options) defaults() {
	o.Engine = cmp.Or(o.Engine, DefaultEngine)
	o.Containerd = cmp.Or(o.Containerd, image.ContainerdSocket)
	o.Storage = cmp.Or(o.Storage, image.StorageRoot)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Registry == nil {
		o.Registry = image.NewRegistry(image.RegistryOptions{CertDir: image.DockerCertDir})
	}
}

// look is Look with the scanner's version.
func (o *Options) look() Look {
	l := o.Look
	if o.Malware != nil {
		l.Malware = o.Malware.Engine() + " " + o.Malware.Version()
	}
	if l.Rules = ""; o.Rules != nil {
		l.Rules = o.Rules.Version
	}
	return l
}

// Defaults of Options.
const (
	DefaultEngine  = "unix:///var/run/docker.sock"
	DefaultTimeout = 15 * time.Minute
)

var errTimeout = errors.New("the scan's time limit is over")

// Image scans one image. Its errors name the target, the reason and the way
// out. It is safe for concurrent use; each call has a child process of its own.
func Image(ctx context.Context, o Options) (*report.Report, error) {
	o.defaults()
	target, err := ParseTarget(o.Target)
	if err != nil {
		return nil, err
	}
	reading, cancel := context.WithTimeoutCause(ctx, o.Timeout, errTimeout)
	defer cancel()
	rep, err := target.read(reading, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	rep.Schema, rep.Tool, rep.Time, rep.Target = report.SchemaVersion, o.Tool, time.Now().UTC().Truncate(time.Second), o.Target
	rep.Gaps = append(rep.Gaps, o.Gaps...)
	o.addSignatures(reading, rep)
	if err := match(ctx, o.Matcher, rep); err != nil {
		return nil, fmt.Errorf("%s: matching with intelligence: %w", target, err)
	}
	rep.Findings, rep.Excluded = o.VEX.Apply(target.proven(rep.Image), rep.Findings)
	if o.Judge != nil {
		facts := rep.Facts()
		facts.Stage, facts.Host = o.Stage, o.Host
		verdict := o.Judge.Image(rep.Time, facts)
		rep.Verdict = &verdict
	}
	return rep, nil
}

// match fills in the findings.
func match(ctx context.Context, m Matcher, rep *report.Report) error {
	if m == nil {
		var gaps []string
		if n := len(rep.Packages); n == 1 {
			gaps = []string{"no intelligence bundle: the vulnerabilities of 1 package were not judged; run `breakwater intel update`"}
		} else if n > 1 {
			gaps = []string{fmt.Sprintf("no intelligence bundle: the vulnerabilities of %d packages were not judged; run `breakwater intel update`", n)}
		}
		rep.SetMatched(nil, nil, gaps)
		return nil
	}
	findings, used, gaps, err := m.Match(ctx, rep.Distro, rep.Packages)
	if err != nil {
		return err
	}
	rep.SetMatched(findings, used, gaps)
	return nil
}
