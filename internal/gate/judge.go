package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/gate/dockerfacts"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

// Failure is the administrator's choice for what cannot be judged: because no
// policy is in force, the engine or the agent does not answer, or the gate's
// own worker is dead. What policy refuses is refused in either case.
type Failure string

// The choices. FailClosed is the default: a gate that anybody can open by
// stopping the agent guards nothing.
const (
	FailClosed Failure = "closed"
	FailOpen   Failure = "open"
)

// ParseFailure reads a choice.
func ParseFailure(text string) (Failure, error) {
	if f := Failure(text); f == FailClosed || f == FailOpen {
		return f, nil
	}
	return "", fmt.Errorf("%q is neither %s nor %s", text, FailClosed, FailOpen)
}

// Options of a gate.
type Options struct {
	Data      string // the agent's data folder
	Engine    string // path of the engine's socket
	OnFailure Failure
	// ScanTimeout bounds a scan that policy wants before a verdict.
	ScanTimeout time.Duration
	// Allow names classes of calls that are let through unjudged; see Classes.
	Allow []string
	Log   *slog.Logger
}

// request is what the engine tells its authorization plugins (Docker Engine,
// "Access authorization plugin": AuthZPlugin.AuthZReq).
type request struct {
	User   string            `json:"User"`
	Method string            `json:"RequestMethod"`
	URI    string            `json:"RequestUri"`
	Body   []byte            `json:"RequestBody"`
	Header map[string]string `json:"RequestHeaders"`
}

// answer is what a plugin says back. Err is never used: the engine would show
// it as a failure of the plugin.
type answer struct {
	Allow bool   `json:"Allow"`
	Msg   string `json:"Msg,omitempty"`
}

// judge decides about calls. Safe for concurrent use.
type judge struct {
	options Options
	rules   *rules
	reports *reports
	engine  *engine
	agent   *agentLink
	notes   *notes
	scans   singleflight.Group

	allowed, refused, failed atomic.Uint64
}

func newJudge(o Options, n *notes, a *agentLink) *judge {
	return &judge{
		options: o, notes: n, agent: a, engine: newEngine(o.Engine),
		rules: &rules{dir: o.Data}, reports: &reports{dir: o.Data},
	}
}

// ruling is what was found out about one call.
type ruling struct {
	verdict   event.Verdict
	container event.Container
	// inspection is what the engine said of the container, when it is to start.
	inspection []byte
	// what the call is about, for people: `image "x"`, `container "y"`.
	what string
}

// decide answers one call.
func (j *judge) decide(ctx context.Context, q request) answer {
	c, err := parseCall(q.Method, q.URI)
	if err != nil {
		return j.deny(ctx, q, "unknown", ruling{verdict: no("gate.request", "The call is not understood: "+err.Error(), "Use a Docker client of a version that Breakwater knows, or upgrade Breakwater")})
	}
	switch c.treat {
	case pass:
		return answer{Allow: true}
	case refuse:
		if slices.Contains(j.options.Allow, c.class) {
			return answer{Allow: true}
		}
		return j.deny(ctx, q, c.class, ruling{verdict: no("gate."+c.class, "Calls of this kind are refused: "+c.why, "Let the administrator start the gate with --allow="+c.class)})
	}
	now := time.Now()
	ruled, err := j.rule(ctx, now, c, q)
	ruled.container.Engine = "docker"
	var bad *badRequest
	switch {
	case err == nil && ruled.verdict.Allowed:
		return j.admit(ctx, q, c, ruled)
	case err == nil:
		return j.deny(ctx, q, string(c.treat), ruled)
	case errors.As(err, &bad):
		ruled.verdict = no("gate.request", bad.reason, bad.remedy)
		return j.deny(ctx, q, string(c.treat), ruled)
	case missing(err) && c.treat == createCall:
		return answer{Allow: true} // no image, nothing to run: the engine says so itself, and clients pull then
	case missing(err): // it must not appear between this answer and the engine's act
		ruled.verdict = no("gate.missing", fmt.Sprintf("No such container: %s", c.id), "Name a container that the engine has")
		return j.deny(ctx, q, string(c.treat), ruled)
	}
	return j.cannot(ctx, q, c, ruled, err)
}

// badRequest is a call that nobody can judge, whatever policy says.
type badRequest struct{ reason, remedy string }

func (b *badRequest) Error() string { return b.reason }

// no is the gate's own verdict on a call that policy is not asked about.
func no(rule, message, remedy string) event.Verdict {
	return event.Verdict{Violations: []event.Violation{{Policy: "gate", Rule: rule, Message: message, Remediation: remedy}}}
}

// rule gathers facts and asks policy.
func (j *judge) rule(ctx context.Context, now time.Time, c call, q request) (ruling, error) {
	rules, err := j.rules.current()
	if err != nil {
		return ruling{}, err
	}
	host, err := j.engine.describe(ctx)
	if err != nil {
		return ruling{}, err
	}
	t := trial{judge: j, rules: rules, host: host, now: now, call: c, request: q}
	switch c.treat {
	case createCall:
		return t.create(ctx)
	case startCall:
		return t.start(ctx)
	case execCall, updateCall:
		return t.change(ctx)
	default:
		return t.build()
	}
}

// trial is one judgement.
type trial struct {
	*judge
	rules   *ruleset
	host    dockerfacts.Host
	now     time.Time
	call    call
	request request
}

// body is the call's body; a call that must have one and of which the engine
// showed none is refused.
func (t trial) body() ([]byte, error) {
	if len(t.request.Body) > 0 {
		return t.request.Body, nil
	}
	return nil, &badRequest{
		"The engine did not show the call's body to the gate (Docker shows only JSON of less than 1 MiB that is sent in one piece)",
		"Send the body as application/json, with a Content-Length, in less than 1 MiB",
	}
}

func (t trial) create(ctx context.Context) (ruling, error) {
	body, err := t.body()
	if err != nil {
		return ruling{}, err
	}
	name := t.call.query.Get("name")
	facts, imageName, err := dockerfacts.Create(ctx, name, body, t.host, t.engine)
	r := ruling{container: facts.Container, what: fmt.Sprintf("a container of image %q", imageName)}
	if err != nil {
		return r, t.unreadable(err)
	}
	if imageName == "" {
		return r, &badRequest{"The container names no image", "Name an image"}
	}
	image, err := t.engine.image(ctx, imageName)
	if err != nil {
		return r, err
	}
	return t.both(ctx, r, facts, image)
}

// unreadable tells a body that cannot be understood from an engine that
// cannot be asked.
func (t trial) unreadable(err error) error {
	var netErr *url.Error
	if errors.As(err, &netErr) || missing(err) {
		return err
	}
	return &badRequest{"The call is not understood: " + err.Error(), "Send it as the Docker client does"}
}

func (t trial) start(ctx context.Context) (ruling, error) {
	r := ruling{what: fmt.Sprintf("container %q", t.call.id)}
	if text := strings.TrimSpace(string(t.request.Body)); (text != "" && text != "{}" && text != "null") || t.call.before(1, 24) {
		return r, &badRequest{
			"A start may not bring parameters of its own (as the API before 1.24 allowed): they would not be those that were judged",
			"Give the parameters when the container is created, with API 1.24 or newer",
		}
	}
	if t.call.query.Has("checkpoint") || t.call.query.Has("checkpoint-dir") {
		return r, &badRequest{
			"A start from a checkpoint brings memory of its own, which neither the image nor the policy describes",
			"Start the container from its image",
		}
	}
	facts, inspection, err := t.inspect(ctx)
	if err != nil {
		return r, err
	}
	r.container, r.inspection = facts.Container, inspection
	image, err := t.engine.image(ctx, facts.Image.Digest)
	if missing(err) { // removed while its container lives on: its content is still known by its digest
		image, err = facts.Image, nil
	}
	if err != nil {
		return r, err
	}
	for _, ref := range facts.Image.References {
		if ref != "" && !isDigest(ref) && !slices.Contains(image.References, ref) {
			image.References = append(image.References, ref)
		}
	}
	return t.both(ctx, r, facts, image)
}

// images judges the image and those that are mounted beside it.
func (t trial) images(ctx context.Context, facts policy.StartFacts) (event.Verdict, error) {
	v, err := t.image(ctx, facts.Subject)
	for _, m := range facts.Mounts {
		if err != nil || m.Image == "" {
			continue
		}
		beside := facts.Subject
		if beside.Image, err = t.engine.image(ctx, m.Image); err != nil {
			continue
		}
		var more event.Verdict
		more, err = t.image(ctx, beside)
		v = policy.Join(v, more)
	}
	return v, err
}

func (t trial) inspect(ctx context.Context) (facts policy.StartFacts, raw []byte, err error) {
	if raw, err = t.engine.Container(ctx, t.call.id); err != nil {
		return facts, nil, err
	}
	facts, err = dockerfacts.Inspect(ctx, raw, t.host, t.engine)
	return facts, raw, err
}

// both judges image and parameters.
func (t trial) both(ctx context.Context, r ruling, facts policy.StartFacts, image event.Image) (ruling, error) {
	facts.Image, facts.Container.Image = image, image
	t.complete(&facts)
	r.container = facts.Container
	r.what = fmt.Sprintf("%s (%s)", r.what, shortDigest(image.Digest))
	r.verdict = t.rules.set.Start(t.now, facts)
	onImage, err := t.images(ctx, facts)
	if err != nil && r.verdict.Allowed {
		return r, err
	}
	if err != nil { // what policy refuses anyway needs no verdict on the image
		r.verdict.Incomplete = append(r.verdict.Incomplete, "The image was not judged: "+err.Error())
		return r, nil
	}
	r.verdict = policy.Join(onImage, r.verdict)
	return r, nil
}

// complete fills in what the engine does not know.
func (t trial) complete(facts *policy.StartFacts) {
	facts.User = t.request.User
	facts.Stage = t.rules.stage
	facts.Host = t.notes.host
}

// image judges an image, scanning it now if policy wants that.
func (t trial) image(ctx context.Context, subject policy.Subject) (event.Verdict, error) {
	found, err := t.reports.of(subject.Image.Digest)
	if unreadable := err; unreadable != nil { // damaged, or of another version: the agent makes it anew
		if found, err = t.scan(ctx, subject.Image); err != nil {
			return event.Verdict{}, errors.Join(unreadable, err)
		}
	}
	if t.rules.set.WantsScan(subject) && (found == nil || len(t.rules.set.Lacks(found.Looked)) > 0) {
		var anew *report.Report
		anew, err = t.scan(ctx, subject.Image)
		var away *unreachable
		switch {
		case err == nil:
			found = anew
		case found == nil && errors.As(err, &away):
			return event.Verdict{}, fmt.Errorf("the image was never scanned, and a scan now failed: %w", err)
		}
	}
	var facts policy.ImageFacts
	if found != nil {
		facts = t.rules.said.Facts(found)
	}
	facts.Subject = subject
	v := t.rules.set.Image(t.now, facts)
	if err != nil { // the scan itself failed, or took too long: as unscanned
		v.Incomplete = append(v.Incomplete, "A scan of the image failed: "+err.Error())
	}
	return v, nil
}

// scan asks the agent once, however many starts wait for the same image.
func (t trial) scan(ctx context.Context, image event.Image) (*report.Report, error) {
	v, err, _ := t.scans.Do(image.Digest, func() (any, error) {
		// Not the caller's context: others wait for the same scan.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.options.ScanTimeout)
		defer cancel()
		return t.agent.scan(ctx, t.options.Engine, image)
	})
	if err != nil {
		return nil, err
	}
	found, _ := v.(*report.Report) // what Do was given returns nothing else
	return found, nil
}

// change judges what an exec or an update adds to a container: it is refused
// for what it makes worse, not for what the container is already.
func (t trial) change(ctx context.Context) (ruling, error) {
	r := ruling{what: fmt.Sprintf("%s of container %q", t.call.treat, t.call.id)}
	body, err := t.body()
	if err != nil {
		return r, err
	}
	before, _, err := t.inspect(ctx)
	if err != nil {
		return r, err
	}
	t.complete(&before)
	r.container = before.Container
	apply := dockerfacts.Exec
	if t.call.treat == updateCall {
		apply = dockerfacts.Update
	}
	after, err := apply(before, body)
	if err != nil {
		return r, t.unreadable(err)
	}
	r.verdict = t.worse(before, after)
	return r, nil
}

// build judges what a build asks for beyond a plain one. A form in the body,
// which Go's net/http would read before the parameters of the URI, and which the
// engine does not show to the gate, is refused; the engine of 20.10 reads none.
func (t trial) build() (ruling, error) {
	if isForm(t.request.Header) {
		return ruling{what: "a build"}, &badRequest{
			"The call's body is a form, which the engine may read and does not show to the gate",
			"Send the parameters in the URI, and the build's context as application/x-tar",
		}
	}
	asked, plain := dockerfacts.Build(t.call.query, t.host)
	t.complete(&asked)
	t.complete(&plain)
	r := ruling{what: "a build", container: asked.Container, verdict: t.worse(plain, asked)}
	if path.Base(t.call.path) == "grpc" {
		r.verdict.Incomplete = append(r.verdict.Incomplete, "BuildKit's control connection does not show what is built")
	}
	return r, nil
}

// isForm: net/http's ParseForm and ParseMultipartForm would read the body.
func isForm(header map[string]string) bool {
	for name, value := range header {
		if !strings.EqualFold(name, "Content-Type") {
			continue
		}
		kind, _, _ := strings.Cut(strings.ToLower(value), ";")
		if kind = strings.TrimSpace(kind); kind == "application/x-www-form-urlencoded" || kind == "multipart/form-data" {
			return true
		}
	}
	return false
}

// worse is the verdict on after, with only those violations that before has not.
func (t trial) worse(before, after policy.StartFacts) event.Verdict {
	old := t.rules.set.Start(t.now, before).Violations
	v := t.rules.set.Start(t.now, after)
	v.Violations = slices.DeleteFunc(v.Violations, func(x event.Violation) bool { return slices.Contains(old, x) })
	v.Allowed = !slices.ContainsFunc(v.Violations, func(x event.Violation) bool { return !x.Audit })
	return v
}

func shortDigest(digest string) string {
	if isDigest(digest) {
		return digest[:len("sha256:")+12]
	}
	return "no digest"
}
