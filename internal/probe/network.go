//go:build linux

package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// networkTrial is one cgroup hook and the act on loopback that it must refuse.
type networkTrial struct {
	hook   string
	kind   ebpf.ProgramType
	at     ebpf.AttachType
	do     string
	v6     bool
	needed bool // by "connections outside policy"; else it is told only
	only   []asm.Instruction
}

func networkTrials() []networkTrial {
	const addr, sock = ebpf.CGroupSockAddr, ebpf.CGroupSock
	return []networkTrial{
		{hook: "connect4", kind: addr, at: ebpf.AttachCGroupInet4Connect, do: doTCP, needed: true},
		{hook: "connect6", kind: addr, at: ebpf.AttachCGroupInet6Connect, do: doTCP, v6: true, needed: true},
		{hook: "connect4 (fast open)", kind: addr, at: ebpf.AttachCGroupInet4Connect, do: doFastOpen, needed: true},
		{hook: "sendmsg4", kind: addr, at: ebpf.AttachCGroupUDP4Sendmsg, do: doUDP, needed: true},
		{hook: "sendmsg6", kind: addr, at: ebpf.AttachCGroupUDP6Sendmsg, do: doUDP, v6: true, needed: true},
		{hook: "sock_create (raw)", kind: sock, at: ebpf.AttachCGroupInetSockCreate, do: doRaw, needed: true, only: onlyRawSockets()},
		{hook: "bind4", kind: addr, at: ebpf.AttachCGroupInet4Bind, do: doBind},
		{hook: "bind6", kind: addr, at: ebpf.AttachCGroupInet6Bind, do: doBind, v6: true},
	}
}

// networkRow: every needed hook must have refused, or the row says which did
// not.
func (p *prober) networkRow() event.Capability {
	if p.scratch.unified == "" {
		return p.withoutUnified(event.ControlNetwork)
	}
	listeners, err := listen()
	if err != nil {
		return row(event.ControlNetwork, event.StrengthNone, "", finding{why: err.Error(), inconclusive: true})
	}
	defer listeners.close()
	var acted, absent []string
	var missing []finding
	for _, t := range networkTrials() {
		f := p.tryNetwork(t, listeners)
		switch {
		case f.acts:
			acted = append(acted, t.hook)
		case t.v6 && listeners.v6 == nil, t.do == doFastOpen && !f.applicable:
			absent = append(absent, t.hook)
		case t.needed:
			missing = append(missing, f)
		default:
			absent = append(absent, t.hook)
		}
	}
	return p.judgeNetwork(acted, absent, missing)
}

// withoutUnified is the row of a control whose hooks hang in cgroup v2, on a
// host whose kernel has none.
func (p *prober) withoutUnified(c event.Control) event.Capability {
	r := row(c, event.StrengthNone, "", finding{why: "the kernel's hook hangs in cgroup v2: " + p.scratch.noV2.Error(), inconclusive: transient(p.scratch.noV2)})
	r.Fix = "use a kernel with cgroup v2 (4.15) and CONFIG_CGROUP_BPF"
	return r
}

func (p *prober) judgeNetwork(acted, absent []string, missing []finding) event.Capability {
	var whys []finding
	if len(acted) > 0 {
		p.acted = true
		whys = append(whys, finding{why: "refused with EPERM: " + strings.Join(acted, ", ")})
	}
	if len(absent) > 0 {
		whys = append(whys, finding{why: "not here: " + strings.Join(absent, ", ")})
	}
	if p.scratch.private != nil {
		whys = append(whys, finding{why: "on a cgroup v2 hierarchy of its own, as the agent mounts one on hosts with v1 alone"})
	}
	if len(missing) == 0 {
		return row(event.ControlNetwork, event.StrengthPrevent, "cgroup", whys...)
	}
	// A connection that slips by one of the hooks is not prevented.
	r := row(event.ControlNetwork, event.StrengthNone, "", append(whys, missing...)...)
	r.Fix = bpfFix
	return r
}

func (p *prober) tryNetwork(t networkTrial, l *listeners) finding {
	a := act{Do: t.do, Address: l.address(t.do, t.v6)}
	if t.v6 && l.v6 == nil {
		return finding{why: t.hook + ": this host has no IPv6 loopback"}
	}
	return p.try(trial{name: "cgroup/" + t.hook, act: a, attach: func() (io.Closer, error) {
		return refuse(p.scratch.unified, t.kind, t.at, t.only...)
	}})
}

// engineSocket tells whether whoever connects to a unix socket can be stopped
// before the connection is of use to it.
func (p *prober) engineSocket() finding {
	const tracepoint = "sk_data_ready"
	path := filepath.Join(p.dir, "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		return finding{why: err.Error(), inconclusive: true}
	}
	defer l.Close()
	go drain(l)
	s, err := p.scope()
	if err != nil {
		return finding{why: err.Error(), inconclusive: true}
	}
	guard, err := killAt(tracepoint, s)
	if err != nil {
		return finding{why: fmt.Sprintf("every system call is watched for connections to an engine's socket (%s needs kernel 6.3: %v)", tracepoint, err), inconclusive: transient(err)}
	}
	_, err = p.inside(act{Do: doUnix, Path: path})
	errno, outside := p.outside(act{Do: doUnix, Path: path})
	if closeErr := guard.Close(); closeErr != nil {
		return finding{why: closeErr.Error(), inconclusive: true}
	}
	if !errors.Is(err, errKilled) || outside != nil || errno != 0 {
		return finding{why: fmt.Sprintf("%s: the canary that connected got %v, one outside %s", tracepoint, err, said(errno, outside)), inconclusive: true}
	}
	return finding{acts: true, why: "who connects to an engine's socket is killed before the call returns (" + tracepoint + ")"}
}

// listeners are the peers of the network acts, on loopback.
type listeners struct {
	v4, v6    net.Listener // v6 is nil on hosts without
	udp, udp6 net.PacketConn
}

func listen() (*listeners, error) {
	l := &listeners{}
	var err error
	if l.v4, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	go drain(l.v4)
	if l.udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		l.close()
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	if l.v6, err = net.Listen("tcp6", "[::1]:0"); err != nil {
		l.v6 = nil
		return l, nil
	}
	go drain(l.v6)
	if l.udp6, err = net.ListenPacket("udp6", "[::1]:0"); err != nil {
		l.v6.Close()
		l.v6 = nil
	}
	return l, nil
}

// drain accepts and closes until the listener is closed.
func drain(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

func (l *listeners) address(do string, v6 bool) string {
	switch {
	case v6 && l.v6 == nil:
		return ""
	case do == doUDP && v6:
		return l.udp6.LocalAddr().String()
	case do == doUDP:
		return l.udp.LocalAddr().String()
	case v6:
		return l.v6.Addr().String()
	}
	return l.v4.Addr().String()
}

func (l *listeners) close() {
	for _, c := range []io.Closer{l.v4, l.v6, l.udp, l.udp6} {
		if c != nil {
			c.Close()
		}
	}
}
