//go:build linux

package probe

import (
	"io"
	"syscall"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// fileTrial refuses one mode of opening where the kernel asks.
func (p *prober) fileTrial(write bool) trial {
	mode, word := int32(fmodeRead), "reading"
	if write {
		mode, word = fmodeWrite, "writing"
	}
	r := p.refuser
	return trial{name: r.name(hookOpen) + " for " + word, act: act{Do: doOpen, Path: p.file, Write: write}, attach: func() (io.Closer, error) {
		only, err := opened(mode)
		if err != nil {
			return nil, err
		}
		s, err := p.scope()
		if err != nil {
			return nil, err
		}
		return r.attach(hookOpen, s, only...)
	}}
}

func (p *prober) fileRows(events finding) []event.Capability {
	return []event.Capability{p.readRow(events), p.writeRow(events)}
}

func (p *prober) readRow(events finding) event.Capability {
	const c = event.ControlFileRead
	bpf := p.try(p.fileTrial(false))
	if bpf.acts {
		return row(c, event.StrengthPrevent, p.refuser.mechanism(), bpf)
	}
	fan := p.try(fanotifyTrial(act{Do: doOpen, Path: p.file}, p.file, fanOpenPerm, p))
	r := func() event.Capability {
		switch {
		case fan.acts:
			return row(c, event.StrengthPreventLive, "fanotify", finding{why: fan.why + " (never for procfs)"}, bpf)
		case events.acts:
			return row(c, event.StrengthDetect, "tracepoint", fan, bpf)
		}
		return row(c, event.StrengthNone, "", fan, bpf)
	}()
	r.Fix = lsmFix()
	return r
}

func (p *prober) writeRow(events finding) event.Capability {
	const c = event.ControlFileWrite
	bpf := p.try(p.fileTrial(true))
	if bpf.acts {
		return row(c, event.StrengthPrevent, p.refuser.mechanism(), bpf)
	}
	open := act{Do: doOpen, Path: p.file, Write: true}
	fan := p.try(fanotifyTrial(open, p.file, fanOpenPerm, p))
	mount := p.try(p.confined(trial{
		name: "a read-only mount", act: open, refusal: syscall.EROFS,
	}, act{Do: doReadOnly, Path: p.dir}))
	if mount.acts {
		mount.why = "read-only mounts, set at start, refused the canary"
	}
	r := row(c, event.StrengthNone, "", mount, fan, bpf)
	switch {
	case fan.acts:
		r = row(c, event.StrengthPreventLive, "fanotify", finding{why: fan.why + " (never for procfs, nor changes by name only)"}, mount, bpf)
	case events.acts:
		r = row(c, event.StrengthDetect, "tracepoint", mount, fan, bpf)
	}
	r.Fix = lsmFix()
	return r
}

// confined makes a trial of what is set when a container is created: the
// canary inside confines itself, and is replaced afterwards.
func (p *prober) confined(t trial, by act) trial {
	t.attach = func() (io.Closer, error) {
		errno, err := p.inside(by)
		if err == nil && errno != 0 {
			err = errno
		}
		if err != nil {
			p.fresh()
			return nil, err
		}
		return closer(func() error { p.fresh(); return nil }), nil
	}
	return t
}

type closer func() error

func (c closer) Close() error { return c() }
