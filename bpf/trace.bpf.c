//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Without BPF LSM: acts that the kernel's own tracepoints tell of, so that no
// system call has to be watched, which each of them would pay for. What is not
// to happen is stopped by a signal before the call returns to its process.
// sk_data_ready is there since 6.3, cap_capable since 6.14; older kernels load
// syscall.bpf.c instead.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "include/read.h"
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/introduce.h"
#include "include/path.h"
#include "include/exec.h"
#include "include/open.h"
#include "include/call.h"
#include "include/privilege.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// once tells whether this process's contact with a socket is worth telling.
static __always_inline bool once(struct who *w, struct task_struct *task, u8 kind, u8 outcome, u64 what)
{
	struct seen_key key = {};
	u64 repeats;

	key.cgroup = w->cgroup;
	key.start = start_of(task);
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kind = kind;
	key.detail = outcome;
	*(u64 *)key.addr = what;
	return worth_telling(&key, outcome, &repeats);
}

// A container engine's socket: whoever speaks to it owns the host. The listener
// is told of a new connection, and the engine's end of whatever is sent on it,
// by the process that connects or sends.
SEC("raw_tp/sk_data_ready")
int on_data_ready(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct task_struct *task;
	struct file_key key = {};
	struct who w = {};
	u8 outcome;

	if (READ(sk, __sk_common.skc_family) != AF_UNIX || !is_engine(sk, &key))
		return 0;
	task = current_task();
	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	outcome = stop(w.slot->mode[CONTROL_ENGINE_SOCKET]);
	if (once(&w, task, KIND_CONNECT, outcome, key.ino))
		emit_socket(&w, KIND_CONNECT, CONTROL_ENGINE_SOCKET, outcome, AF_UNIX, key.ino,
			    READ((struct unix_sock *)sk, addr));
	return 0;
}

// on_packet_socket: packet and XDP sockets have no cgroup hook; whoever makes one
// is asked for CAP_NET_RAW before. So are raw sockets of the families that have a
// hook: those are refused there. The arguments of the old entry's socketcall are
// in memory that may have changed since: it is taken for the worst.
static __always_inline int on_packet_socket(struct who *w, struct call *call)
{
	u32 family = call->family ? call->family : AF_PACKET;
	u8 outcome = OUTCOME_NONE;

	if (has_rules(family))
		return 0;
	if (w->slot->flags & (SLOT_NET_RESTRICT | SLOT_NET_RULES))
		outcome = stop(w->slot->mode[CONTROL_NETWORK]);
	emit_socket(w, KIND_SOCKET, CONTROL_NETWORK, outcome, family, 0, 0);
	return 0;
}

SEC("raw_tp/cap_capable")
int on_capable(struct bpf_raw_tracepoint_args *ctx)
{
	struct privilege p = {.capability = ctx->args[3], .granted = !(u32)ctx->args[4]};
	u8 outcome;

	if (ordinary(p.capability) || borrowed((void *)ctx->args[0], p.capability) || !find_privilege(&p))
		return 0;
	if (p.capability == CAP_NET_RAW && p.call.kind == CALL_SOCKET && p.granted)
		return on_packet_socket(&p.who, &p.call);
	outcome = stop(p.mode);
	tell_privilege(&p, outcome, outcome == OUTCOME_KILLED ? MECHANISM_SYSCALL_KILL : MECHANISM_NONE);
	return 0;
}
