//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Files and sockets that were just opened, judged on the descriptor that the
// call returned, which is the kernel's own object: another thread cannot swap
// it as it could swap the arguments. What must not be used is stopped by a
// signal before the call returns to its process.
//
// Limits: a descriptor that another thread, or another process with the same
// table of descriptors, already waits for; requests through io_uring.
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct work);
	__uint(max_entries, 1);
} open_work SEC(".maps");

static __always_inline int on_open(s64 fd)
{
	struct task_struct *task = current_task();
	struct seen_key key = {};
	struct work *work;
	struct inode *inode;
	struct file *file;
	struct who w = {};
	u32 zero = 0, rule, write;
	u8 outcome = OUTCOME_NONE, control;
	u64 repeats;

	if (fd < 0 || !find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	file = file_of(task, fd);
	work = bpf_map_lookup_elem(&open_work, &zero);
	if (!file || !work)
		return 0;
	inode = READ(file, f_inode);
	write = (READ(file, f_mode) & FMODE_WRITE) != 0;
	work->mode = MODE_OFF;
	work->control = NO_CONTROL;
	walk_path(work, &file->f_path, task);
	control = write ? escape_by(file) : NO_CONTROL;
	if (control != NO_CONTROL)
		consider(work, w.slot, control & 31, 0);
	else
		judge_file(work, &w, write);
	if (control == NO_CONTROL && work->mode == MODE_OFF && rule_of(work, 0, &rule) != VERDICT_ALLOW)
		return 0; // nobody watches it
	if (work->mode >= MODE_BLOCK) {
		bpf_send_signal(SIGKILL);
		outcome = OUTCOME_KILLED;
	} else if (work->mode == MODE_DETECT) {
		outcome = OUTCOME_DETECTED;
	}
	key.cgroup = w.cgroup;
	key.start = start_of(task);
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kind = KIND_OPEN;
	key.detail = write << 2 | outcome;
	*(u64 *)key.addr = READ(inode, i_ino);
	*(u64 *)(key.addr + 8) = READ(inode, i_sb, s_dev);
	if (worth_telling(&key, outcome, &repeats))
		emit_open(work, &w, task, inode, write, ACT_OPEN, outcome);
	return 0;
}

// A new program that the loader maps never passes exec: it is stopped before
// the mapping is known to the process.
static __always_inline int on_map(struct call *call, s64 ret)
{
	struct task_struct *task = current_task();
	struct inode *inode;
	struct work *work;
	struct file *file;
	struct who w = {};
	u32 zero = 0;
	u8 outcome = OUTCOME_DETECTED;

	if (ret < 0 && ret >= -4095)
		return 0;
	if (!(call->prot & PROT_EXEC) && !(READ(task, personality) & READ_IMPLIES_EXEC))
		return 0;
	if (!find_me(&w, task) || !w.slot->mode[CONTROL_DRIFT])
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	file = file_of(task, call->fd);
	work = bpf_map_lookup_elem(&open_work, &zero);
	if (!file || !work || !is_loader(READ(task, mm, exe_file, f_path.dentry)))
		return 0;
	inode = READ(file, f_inode);
	if (!novelty(inode, w.container))
		return 0;
	work->mode = MODE_OFF;
	walk_path(work, &file->f_path, task);
	consider(work, w.slot, CONTROL_DRIFT, 0);
	if (work->mode >= MODE_BLOCK) {
		bpf_send_signal(SIGKILL);
		outcome = OUTCOME_KILLED;
	}
	emit_open(work, &w, task, inode, 0, ACT_OPEN, outcome);
	return 0;
}

static __always_inline struct sock *sock_of(struct task_struct *task, u64 fd)
{
	struct file *file = file_of(task, fd);
	struct socket *s;

	if (!file || (READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	s = READ(file, private_data);
	return READ(s, sk);
}

// Packet, XDP, VSOCK and other families have no cgroup hook at all.
static __always_inline int on_socket(s64 fd)
{
	struct task_struct *task = current_task();
	struct who w = {};
	struct sock *sk;
	u16 family;
	u8 outcome = OUTCOME_NONE;

	if (fd < 0 || !find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	sk = sock_of(task, fd);
	if (!sk)
		return 0;
	family = READ(sk, __sk_common.skc_family);
	if (has_rules(family))
		return 0;
	if (w.slot->flags & (SLOT_NET_RESTRICT | SLOT_NET_RULES))
		outcome = stop(w.slot->mode[CONTROL_NETWORK]);
	emit_socket(&w, KIND_SOCKET, CONTROL_NETWORK, outcome, family, 0, 0);
	return 0;
}

// A container engine's socket: whoever speaks to it owns the host.
static __always_inline int on_connect(u64 fd, s64 ret)
{
	struct task_struct *task = current_task();
	struct file_key key = {};
	struct who w = {};
	struct sock *sk, *peer;

	if (ret || !find_me(&w, task))
		return 0;
	sk = sock_of(task, fd);
	if (!sk || READ(sk, __sk_common.skc_family) != AF_UNIX)
		return 0;
	peer = READ((struct unix_sock *)sk, peer);
	if (!is_engine(peer, &key))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	emit_socket(&w, KIND_CONNECT, CONTROL_ENGINE_SOCKET, stop(w.slot->mode[CONTROL_ENGINE_SOCKET]),
		    AF_UNIX, key.ino, READ((struct unix_sock *)peer, addr));
	return 0;
}

// Every system call ends here, by whichever entry it came: the syscalls'
// tracepoints leave out the 32-bit ones, which any process can make.
SEC("raw_tp/sys_exit")
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct call call = {};

	what_call(&call, (struct pt_regs *)ctx->args[0]);
	switch (call.kind) {
	case CALL_OPEN:
		return on_open(ctx->args[1]);
	case CALL_SOCKET:
		return on_socket(ctx->args[1]);
	case CALL_CONNECT:
		return on_connect(call.fd, ctx->args[1]);
	case CALL_MAP:
		return on_map(&call, ctx->args[1]);
	}
	return 0;
}
