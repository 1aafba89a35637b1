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
		consider(work, w.slot, control & 15, 0);
	else if (rule_of(work, 0, &rule) != VERDICT_ALLOW)
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
		emit_open(work, &w, task, inode, write, outcome);
	return 0;
}

// runs_loader: the program that runs is the dynamic loader itself, which runs
// whatever file it is given: ld-linux-x86-64.so.2, ld-musl-…, ld.so, ld64.so.2.
static __always_inline bool runs_loader(struct task_struct *task)
{
	char name[8] = {};

	bpf_probe_read_kernel_str(name, sizeof(name),
				  READ(task, mm, exe_file, f_path.dentry, d_name.name));
	if (name[0] != 'l' || name[1] != 'd')
		return false;
	return name[2] == '-' || name[2] == '.' || (name[2] == '6' && name[3] == '4');
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
	if (!file || !work || !runs_loader(task))
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
	emit_open(work, &w, task, inode, 0, outcome);
	return 0;
}

static __always_inline u8 stop(u8 mode)
{
	if (mode == MODE_OFF)
		return OUTCOME_NONE;
	if (mode == MODE_DETECT)
		return OUTCOME_DETECTED;
	bpf_send_signal(SIGKILL);
	return OUTCOME_KILLED;
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

// core_pattern names a program that the host's kernel runs as root. The write
// itself is refused, whoever's thread or ring carries it out.
SEC("cgroup/sysctl")
int on_sysctl(struct bpf_sysctl *ctx)
{
	struct task_struct *task = current_task();
	static const char core_pattern[] = "kernel/core_pattern";
	static const char path[] = "/proc/sys/kernel/core_pattern";
	struct open_event *e;
	struct who w = {};
	char name[24] = {};
	u8 outcome, mode;

	if (!ctx->write || !find_me(&w, task))
		return 1;
	if (!w.inside && in_host_mounts(task))
		return 1;
	if (bpf_sysctl_get_name(ctx, name, sizeof(name), 0) != sizeof(core_pattern) - 1)
		return 1;
	for (u32 i = 0; i < sizeof(core_pattern); i++)
		if (name[i] != core_pattern[i])
			return 1;
	mode = w.slot->mode[CONTROL_CORE_PATTERN];
	outcome = mode >= MODE_BLOCK ? OUTCOME_PREVENTED : mode ? OUTCOME_DETECTED : OUTCOME_NONE;
	e = reserve(struct open_event, KIND_OPEN, outcome);
	if (e) {
		fill_head(&e->head, &w, KIND_OPEN);
		fill_task(&e->head, task);
		e->head.control = outcome ? CONTROL_CORE_PATTERN : NO_CONTROL;
		e->head.mode = mode;
		e->head.outcome = outcome;
		if (outcome == OUTCOME_PREVENTED)
			e->head.mechanism = MECHANISM_CGROUP;
		e->ino = e->dev = 0;
		e->magic = PROC_SUPER_MAGIC;
		e->write = 1;
		e->flags = 0;
		__builtin_memcpy(e->path, path, sizeof(path));
		bpf_ringbuf_submit(e, 0);
	} else {
		count_dropped(KIND_OPEN, outcome);
	}
	return outcome != OUTCOME_PREVENTED;
}
