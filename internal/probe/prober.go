//go:build linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// prober holds what the probes share. It is used by one goroutine.
type prober struct {
	ctx     context.Context // of the one Run that the prober lives for
	args    []string
	scratch *scratch
	dir     string // scratch folder: the canary program and a file
	program string
	file    string
	in, out *subject // canaries inside and outside of the scratch cgroup; nil: none alive
	refuser refuser  // how programs get to the kernel's questions
	hooked  bool     // they do
	notes   []string // for the report
	gated   bool     // some engine asks the gate
	acted   bool     // some BPF program acted
}

// newProber prepares the canaries, or says why there is no probing here.
func newProber(ctx context.Context, o Options, gated bool) (*prober, string) {
	if uid := os.Geteuid(); uid != 0 {
		return nil, fmt.Sprintf("needs root, this is uid %d", uid)
	}
	if len(o.Canary) == 0 {
		return nil, "no arguments for the canary were given"
	}
	p := &prober{ctx: ctx, args: o.Canary, gated: gated}
	if err := p.prepare(); err != nil {
		p.close()
		return nil, err.Error()
	}
	return p, ""
}

func (p *prober) prepare() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	h := readHierarchies(string(mounts))
	if h.kind() == "" {
		return errors.New("no cgroup hierarchy is mounted: mount one, `mount -t cgroup2 cgroup2 /sys/fs/cgroup`")
	}
	if err := p.place(); err != nil {
		return err
	}
	removeLeftovers(h, filepath.Dir(p.dir))
	if p.scratch, err = makeScratch(h, filepath.Base(p.dir)); err != nil {
		return err
	}
	errno, err := p.outside(act{Do: doNothing})
	if err != nil || errno != 0 {
		return fmt.Errorf("the canary does not work: %w", errors.Join(err, errnoError(errno)))
	}
	return nil
}

// place writes the canary program where programs may run: /tmp is mounted
// noexec on many hardened hosts.
func (p *prober) place() error {
	program, err := canaryProgram()
	if err != nil {
		return err
	}
	var tried []error
	for _, parent := range []string{os.TempDir(), "/run", "/var/lib", "/root"} {
		dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
		if err != nil {
			tried = append(tried, err)
			continue
		}
		p.dir, p.program, p.file = dir, filepath.Join(dir, "canary"), filepath.Join(dir, "file")
		err = errors.Join(os.WriteFile(p.program, program, 0o755), os.WriteFile(p.file, []byte("canary\n"), 0o644))
		if err == nil {
			err = exec.CommandContext(p.ctx, p.program).Run()
		}
		if err == nil {
			return nil
		}
		tried = append(tried, err, os.RemoveAll(dir))
	}
	p.dir = ""
	return fmt.Errorf("no folder for the canary's program: %w", errors.Join(tried...))
}

func errnoError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// close takes everything away again and says what it could not.
func (p *prober) close() (notes []string) {
	for _, s := range []*subject{p.in, p.out} {
		if s != nil {
			s.close()
		}
	}
	p.in, p.out = nil, nil
	if p.scratch != nil {
		if err := p.scratch.remove(); err != nil {
			notes = append(notes, err.Error())
		}
	}
	if p.dir != "" {
		if err := os.RemoveAll(p.dir); err != nil {
			notes = append(notes, err.Error())
		}
	}
	return notes
}

// inside has an act done in the scratch cgroup, outside next to it. Canaries
// are used again until they end.
func (p *prober) inside(a act) (syscall.Errno, error) {
	if err := p.ready(); err != nil {
		return 0, err
	}
	return use(p.ctx, &p.in, a)
}

func (p *prober) outside(a act) (syscall.Errno, error) {
	if p.out == nil {
		s, err := newSubject(p.args)
		if err != nil {
			return 0, err
		}
		p.out = s
	}
	return use(p.ctx, &p.out, a)
}

func use(ctx context.Context, s **subject, a act) (syscall.Errno, error) {
	errno, err := (*s).do(ctx, a)
	if err != nil { // the canary became another program, was ended, or is stuck
		(*s).close()
		*s = nil
	}
	return errno, err
}

// fresh replaces the canary inside: its last one confined itself.
func (p *prober) fresh() {
	if p.in != nil {
		p.in.close()
		p.in = nil
	}
}

// ready makes sure of a living canary in the scratch cgroup.
func (p *prober) ready() error {
	if p.in != nil {
		return nil
	}
	s, err := newSubject(p.args)
	if err != nil {
		return err
	}
	if _, err = s.do(p.ctx, act{Do: doNothing}); err == nil { // it is up: its own start must not be refused
		err = p.scratch.enter(s.pid())
	}
	if err != nil {
		s.close()
		return err
	}
	p.in = s
	return nil
}

// scope names the living canary inside to a program.
func (p *prober) scope() (scope, error) {
	if err := p.ready(); err != nil {
		return scope{}, err
	}
	return scope{cgroup: p.scratch.id, tgid: p.in.pid()}, nil
}

// finding is what came of probing one mechanism.
type finding struct {
	acts         bool
	why          string // what was seen, or what is missing
	inconclusive bool
	applicable   bool // false: the host lacks the thing that would be guarded
}

// trial is one mechanism and the act that it must refuse.
type trial struct {
	name string
	act  act
	// free is the errno of the act when nothing refuses it.
	free syscall.Errno
	// refusal is what the canary must get; EPERM when zero.
	refusal syscall.Errno
	attach  func() (io.Closer, error)
}

func (t trial) want() syscall.Errno {
	if t.refusal != 0 {
		return t.refusal
	}
	return syscall.EPERM
}

// let reports whether an act went through.
func (t trial) let(errno syscall.Errno, err error) bool {
	return errors.Is(err, errRan) || err == nil && errno == t.free
}

// said puts a canary's result into words.
func said(errno syscall.Errno, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case errno == 0:
		return "it succeeded"
	}
	return errno.Error()
}

// try is the whole way of a probe: free, refused inside, free outside.
func (p *prober) try(t trial) finding {
	if errno, err := p.inside(t.act); !t.let(errno, err) {
		return finding{why: fmt.Sprintf("%s: the canary cannot even do this unguarded (%s)", t.name, said(errno, err)), inconclusive: true}
	}
	if err := p.ready(); err != nil {
		return finding{why: fmt.Sprintf("%s: %v", t.name, err), inconclusive: true, applicable: true}
	}
	guard, err := t.attach()
	if err != nil {
		return finding{why: fmt.Sprintf("%s: %v", t.name, err), inconclusive: transient(err), applicable: true}
	}
	errno, err := p.inside(t.act)
	otherErrno, otherErr := p.outside(t.act)
	if closeErr := guard.Close(); closeErr != nil {
		return finding{why: fmt.Sprintf("%s: taking it away: %v", t.name, closeErr), inconclusive: true, applicable: true}
	}
	switch {
	case t.let(errno, err):
		return finding{why: t.name + " attached without error and never fired", applicable: true}
	case err != nil || errno != t.want():
		return finding{why: fmt.Sprintf("%s: the canary got %s, not %s", t.name, said(errno, err), t.want().Error()), inconclusive: true, applicable: true}
	case !t.let(otherErrno, otherErr):
		return finding{why: fmt.Sprintf("%s reached a process outside of its cgroup (%s)", t.name, said(otherErrno, otherErr)), inconclusive: true, applicable: true}
	}
	return finding{acts: true, why: fmt.Sprintf("%s refused the canary with %s", t.name, unix.ErrnoName(t.want())), applicable: true}
}

// transient errors say nothing about the host: another try may differ.
func transient(err error) bool {
	for _, e := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EINTR, syscall.EBUSY, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tier of event.Doctor.
func (p *prober) tier() int {
	switch {
	case p.hooked:
		return 1
	case p.acted:
		return 2
	}
	return 0
}

// row makes a capability of a control.
func row(c event.Control, s event.Strength, mechanism string, findings ...finding) event.Capability {
	r := event.Capability{Control: c, Title: title(c), Strength: s, Mechanism: mechanism, Unused: unused(c)}
	var whys []string
	for _, f := range findings {
		whys = append(whys, f.why)
		r.Inconclusive = r.Inconclusive || f.inconclusive
	}
	r.Why = strings.Join(whys, "; ")
	return r
}
