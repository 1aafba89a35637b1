package sensor

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/breakwater-sec/breakwater/bpf"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Rule is what a number in a kernel record stands for.
type Rule struct {
	Policy     string
	Source     string // the pattern or peer, with file:line when known
	Effect     event.Effect
	Audit      bool
	Generation uint64
}

// Rules names the rules of compiled policies. Rule number 0 of a control is
// what holds when no single rule decided: the allow-list, or the switch.
type Rules interface {
	Rule(slot uint32, control event.Control, rule uint16) Rule
}

// decoder turns the kernel's records into events. Records are not trusted:
// whatever their bytes are, decoding ends in an event or an error.
type decoder struct {
	host, boot string
	rules      Rules
	sets       capabilitySets
	now        func(boot uint64) time.Time
}

// view reads a record of a fixed layout, which is the record itself as long as
// that lies there; what a newer kernel side appended is left alone.
func view[T any](record []byte) (*T, error) {
	size, align := unsafe.Sizeof(*new(T)), unsafe.Alignof(*new(T))
	if uintptr(len(record)) < size {
		return nil, fmt.Errorf("record of %d bytes, %T has %d", len(record), *new(T), size)
	}
	if at := unsafe.Pointer(&record[0]); uintptr(at)%align == 0 {
		return (*T)(at), nil
	}
	v := new(T)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(v)), size), record)
	return v, nil
}

// record is one decoded record: the event and what the tree needs besides.
type record struct {
	event event.Event
	// gone: a process or container ended.
	gone bool
	// act is the digest of the execution that made the process what it runs; 0
	// when nobody says.
	act uint64
}

func (d *decoder) decode(raw []byte) (record, error) {
	head, err := view[bpf.Head](raw)
	if err != nil {
		return record{}, err
	}
	switch head.Kind {
	case bpf.KindFork:
		return with(d, raw, (*decoder).fork)
	case bpf.KindExec:
		return with(d, raw, (*decoder).exec)
	case bpf.KindExit:
		return with(d, raw, (*decoder).exit)
	case bpf.KindOpen:
		return with(d, raw, (*decoder).open)
	case bpf.KindConnect, bpf.KindSocket:
		return with(d, raw, (*decoder).network)
	case bpf.KindFlow:
		return with(d, raw, (*decoder).flow)
	case bpf.KindListen:
		return with(d, raw, (*decoder).listen)
	case bpf.KindDNS:
		return with(d, raw, (*decoder).question)
	case bpf.KindPrivilege:
		return with(d, raw, (*decoder).privilege)
	case bpf.KindContainer:
		return with(d, raw, (*decoder).container)
	}
	return record{}, fmt.Errorf("record of unknown kind %d", head.Kind)
}

func with[T any](d *decoder, raw []byte, decode func(*decoder, *T) record) (record, error) {
	v, err := view[T](raw)
	if err != nil {
		return record{}, err
	}
	return decode(d, v), nil
}

// processID names a process as event.Process documents it.
func processID(pid uint32, start uint64) string {
	b := strconv.AppendUint(make([]byte, 0, 32), uint64(pid), 10)
	return string(strconv.AppendUint(append(b, '-'), start, 10))
}

// key names an event: BOOT-KIND-TIME-PID, the numbers in hexadecimal digits.
func (d *decoder) key(kind event.Kind, at uint64, pid uint32) string {
	b := append(make([]byte, 0, 64), d.boot...)
	b = append(append(append(b, '-'), kind...), '-')
	b = append(strconv.AppendUint(b, at, 16), '-')
	return string(strconv.AppendUint(b, uint64(pid), 16))
}

// start fills what every event has.
func (d *decoder) start(h *bpf.Head, kind event.Kind) record {
	at := d.now(h.Time)
	e := event.Event{
		Key:  d.key(kind, h.Time, h.Pid),
		Kind: kind,
		Time: at,
		Host: d.host,
	}
	if h.Id[0] != 0 || kind != event.KindExec { // else the host's kernel's
		e.Container = &event.Container{ID: text(h.Id[:]), CgroupID: h.Cgroup}
	}
	if h.Pid != 0 {
		e.Process = &event.Process{
			ID: processID(h.Pid, h.Start), ParentID: processID(h.Ppid, h.ParentStart),
			PID: int(h.Pid), PPID: int(h.Ppid), UID: h.Uid, GID: h.Gid,
			Comm: text(h.Comm[:]), Started: d.now(h.Start),
		}
	}
	return record{event: e}
}

func (d *decoder) fork(r *bpf.ForkEvent) record {
	rec := d.start(&r.Head, event.KindFork)
	rec.act = r.Act
	if r.Head.Control == bpf.ControlForkBomb {
		rec.event.Fork = &event.Fork{Bomb: true}
	}
	d.judge(&rec.event, &r.Head, func(event.Control) string {
		return "within a second its container had very many processes more"
	})
	return rec
}

func (d *decoder) exec(r *bpf.ExecEvent) record {
	rec := d.start(&r.Head, event.KindExec)
	has := func(flag uint32) bool { return r.Flags&flag != 0 }
	x := &event.Exec{
		Path: text(r.Path[:]), Script: text(r.Script[:]), Inode: r.Ino, Device: userDevice(r.Dev),
		Upper: has(bpf.ExecUpper), Modified: has(bpf.ExecModified), Fileless: has(bpf.ExecFileless),
		StdinSocket: has(bpf.ExecStdinSocket), StdoutSocket: has(bpf.ExecStdoutSocket),
		ByKernel: r.Head.Control == bpf.ControlHelper, Loader: has(bpf.ExecLoader),
		Terminal: has(bpf.ExecTerminal), Gained: has(bpf.ExecGained), EUID: r.Euid, Capabilities: d.sets.names(r.Caps),
	}
	rec.event.Exec, rec.act = x, r.Act
	if p := rec.event.Process; p != nil {
		p.Path = x.Path
		p.Args = arguments(r.Args[:min(int(r.ArgsLen), len(r.Args))])
	}
	d.judge(&rec.event, &r.Head, func(c event.Control) string { return whyExec(c, x, r.Flags) })
	return rec
}

func (d *decoder) exit(r *bpf.ExitEvent) record {
	rec := d.start(&r.Head, event.KindExit)
	rec.event.Exit = &event.Exit{Code: int(r.Code >> 8 & 0xff), Signal: int(r.Code & 0x7f)}
	rec.gone = true
	return rec
}

func (d *decoder) open(r *bpf.OpenEvent) record {
	rec := d.start(&r.Head, event.KindFileOpen)
	rec.event.File = &event.File{Path: text(r.Path[:]), Write: r.Write != 0, Act: fileAct(r.Act), Inode: r.Ino, Filesystem: filesystem(r.Magic)}
	d.judge(&rec.event, &r.Head, func(c event.Control) string { return whyFile(c, rec.event.File) })
	return rec
}

func (d *decoder) network(r *bpf.NetEvent) record {
	kind := event.KindConnect
	if r.Head.Kind == bpf.KindSocket {
		kind = event.KindSocket
	}
	rec := d.start(&r.Head, kind)
	n := &event.Network{Family: family(r.Family), Transport: transport(r.Transport), Path: text(r.Path[:])}
	if kind == event.KindConnect && n.Family != "unix" {
		n.Address = address(r.Addr)
		n.Port = int(r.Port)
	}
	rec.event.Network = n
	d.judge(&rec.event, &r.Head, func(c event.Control) string { return whyNetwork(c, kind, n) })
	return rec
}

func (d *decoder) flow(r *bpf.FlowEvent) record {
	rec := d.start(&r.Head, event.KindFlow)
	data := r.Data[:min(int(r.Len), len(r.Data))]
	rec.event.Network = &event.Network{
		Family: family(r.Family), Transport: "tcp", Address: address(r.Addr), Port: int(r.Port),
		Head: strings.ToValidUTF8(string(data), "\uFFFD"),
	}
	d.judge(&rec.event, &r.Head, func(event.Control) string {
		return fmt.Sprintf("the connection to %s began like a mining pool's protocol", peer(rec.event.Network))
	})
	return rec
}

func (d *decoder) container(r *bpf.ContainerEvent) record {
	rec := d.start(&r.Head, event.KindContainer)
	rec.event.Container.Started = time.Unix(0, r.StartedReal)
	code, message := event.NoticeAppeared, "a container's cgroup appeared"
	if r.Gone != 0 {
		code, message = event.NoticeGone, "a container's cgroup was removed"
	}
	rec.event.Notice = &event.Notice{Code: code, Message: message}
	rec.gone = r.Gone != 0
	return rec
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func arguments(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	args := strings.Split(string(b), "\x00")
	for i := range args {
		args[i] = strings.ToValidUTF8(args[i], "\uFFFD")
	}
	return args
}

func address(b [16]byte) string { return netip.AddrFrom16(b).Unmap().String() }

func peer(n *event.Network) string {
	if a, err := netip.ParseAddr(n.Address); err == nil {
		return netip.AddrPortFrom(a, uint16(n.Port)).String()
	}
	return n.Address
}

func family(f uint16) string {
	switch f {
	case 1:
		return "unix"
	case 2:
		return "inet"
	case 10:
		return "inet6"
	case 17:
		return "packet"
	}
	return fmt.Sprintf("family %d", f)
}

func transport(t uint16) string {
	switch t {
	case 0:
		return ""
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 255:
		return "raw"
	}
	return fmt.Sprintf("protocol %d", t)
}

// fileAct names what was done to a file; empty: it was opened.
func fileAct(act uint32) string {
	switch act {
	case bpf.ActCreate:
		return "create"
	case bpf.ActRemove:
		return "remove"
	case bpf.ActRename:
		return "rename"
	case bpf.ActLink:
		return "link"
	case bpf.ActTruncate:
		return "truncate"
	case bpf.ActMode:
		return "mode"
	case bpf.ActOwner:
		return "owner"
	}
	return ""
}

// filesystem names those that matter to detections (include/uapi/linux/magic.h).
func filesystem(magic uint64) string {
	switch magic {
	case 0x27e0eb:
		return "cgroup"
	case 0x63677270:
		return "cgroup2"
	case 0x9fa0:
		return "proc"
	case 0x62656572:
		return "sysfs"
	case 0x794c7630:
		return "overlay"
	case 0x01021994:
		return "tmpfs"
	}
	return ""
}

// userDevice turns the kernel's device number (12 bits major, 20 bits minor)
// into the one that stat reports (new_encode_dev, include/linux/kdev_t.h).
func userDevice(dev uint64) uint64 {
	major, minor := dev>>20, dev&(1<<20-1)
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// KernelDevice is the inverse: what the kernel writes for stat's number.
func KernelDevice(dev uint64) uint64 {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	return major<<20 | minor
}
