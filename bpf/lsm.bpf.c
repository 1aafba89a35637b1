//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Tier 1: decisions where the kernel asks for them, so that what is stopped never
// happened. A script's own file is asked about here before its interpreter.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "include/read.h"
#include <bpf/bpf_tracing.h>
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/introduce.h"
#include "include/path.h"
#include "include/exec.h"
#include "include/open.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// LSM programs can be preempted: room of each task's own, not of the CPU's.
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct work);
} task_work SEC(".maps");

SEC("lsm/bprm_check_security")
int BPF_PROG(on_bprm_check, struct linux_binprm *bprm)
{
	struct task_struct *task = current_task();
	struct who w = {};
	struct work *work;

	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	work = bpf_task_storage_get(&task_work, bpf_get_current_task_btf(), 0,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!work) { // out of memory: as if nothing about the program were known
		if (!(w.slot->flags & SLOT_EXEC_RESTRICT))
			return 0;
		// A branch, not arithmetic on the flag: the verifier wants to
		// see that only 0 and -EPERM come out.
		asm volatile("" ::: "memory");
		return -EPERM;
	}
	judge_exec(work, &w, task, bprm);
	if (work->mode < MODE_BLOCK)
		return 0; // sched_process_exec reports what runs
	if (work->mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	introduce(&w, task, OUTCOME_PREVENTED);
	emit_exec(work, &w, task, bprm, OUTCOME_PREVENTED, MECHANISM_LSM);
	return -EPERM;
}

// told says whether an act that is not refused is worth an event: the first time
// that a process does it, and once a second where policy has a word on it.
static __always_inline bool told(struct who *w, u8 kind, u8 detail, u64 what, u64 where)
{
	struct seen_key key = {};
	u64 repeats;

	key.cgroup = w->cgroup;
	key.start = start_of(current_task());
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kind = kind;
	key.detail = detail;
	*(u64 *)key.addr = what;
	*(u64 *)(key.addr + 8) = where;
	return worth_telling(&key, detail & 3, &repeats);
}

static __always_inline u8 outcome_of(u8 mode)
{
	return mode >= MODE_BLOCK ? OUTCOME_PREVENTED : mode == MODE_DETECT ? OUTCOME_DETECTED : OUTCOME_NONE;
}

// refuse ends the program that a mode wants ended, and says what the hook returns.
static __always_inline int refuse(u8 mode)
{
	if (mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	return -EPERM;
}

static __always_inline struct work *task_room(void)
{
	return bpf_task_storage_get(&task_work, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

// may_be_watched asks for a file's name, and its folder's, before the whole path
// is looked at: almost all files end here.
static __always_inline bool may_be_watched(struct file *file)
{
	struct dentry *d = READ(file, f_path.dentry);
	struct leaf_key key = {};
	u32 *kinds;

	bpf_probe_read_kernel_str(key.name, sizeof(key.name), READ(d, d_name.name));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	if (kinds && *kinds & LEAF_FILE)
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	bpf_probe_read_kernel_str(key.name, sizeof(key.name), READ(d, d_parent, d_name.name));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	if (kinds && *kinds & LEAF_FOLDER)
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	return kinds && *kinds & LEAF_DEEP;
}

// Files whose writing means escape, and those that somebody watches.
SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	struct task_struct *task = current_task();
	bool write = READ(file, f_mode) & FMODE_WRITE;
	struct inode *inode = READ(file, f_inode);
	struct who w = {};
	struct work *work;
	u8 control = write ? escape_by(file) : NO_CONTROL, mode = MODE_OFF, outcome;
	u32 rule;

	if (control == NO_CONTROL && !may_be_watched(file))
		return 0;
	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	if (control != NO_CONTROL)
		mode = w.slot->mode[control & 31];
	outcome = outcome_of(mode);
	work = task_room();
	if (work) {
		work->control = control;
		work->mode = mode;
		walk_path(work, &file->f_path, task);
		if (control == NO_CONTROL && rule_of(work, 0, &rule) != VERDICT_ALLOW)
			return 0; // nobody watches it
		if (told(&w, KIND_OPEN, write << 2 | outcome, READ(inode, i_ino), READ(inode, i_sb, s_dev)))
			emit_open(work, &w, task, inode, write, outcome);
	}
	return outcome == OUTCOME_PREVENTED ? refuse(mode) : 0;
}

// A new program that the dynamic loader maps never passes exec.
SEC("lsm/mmap_file")
int BPF_PROG(on_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot)
{
	struct task_struct *task = current_task();
	struct inode *inode;
	struct who w = {};
	struct work *work;
	u8 mode, outcome;

	if (!file || !(prot & PROT_EXEC) || !is_loader(READ(task, mm, exe_file, f_path.dentry)))
		return 0;
	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	mode = w.slot->mode[CONTROL_DRIFT];
	outcome = outcome_of(mode);
	inode = READ(file, f_inode);
	if (!outcome || !novelty(inode, w.container))
		return 0;
	work = task_room();
	if (work) {
		work->control = CONTROL_DRIFT;
		work->mode = mode;
		walk_path(work, &file->f_path, task);
		emit_open(work, &w, task, inode, 0, outcome);
	}
	return outcome == OUTCOME_PREVENTED ? refuse(mode) : 0;
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(on_unix_connect, struct sock *sk, struct sock *other, struct sock *newsk)
{
	struct file_key key = {};
	struct who w = {};
	u8 mode, outcome;

	if (!is_engine(other, &key) || !find_me(&w, current_task()))
		return 0;
	if (!w.inside && in_host_mounts(current_task()))
		return 0;
	mode = w.slot->mode[CONTROL_ENGINE_SOCKET];
	outcome = outcome_of(mode);
	if (told(&w, KIND_CONNECT, outcome, key.ino, key.dev))
		emit_socket(&w, KIND_CONNECT, CONTROL_ENGINE_SOCKET, outcome, AF_UNIX, key.ino,
			    READ((struct unix_sock *)other, addr));
	return outcome == OUTCOME_PREVENTED ? refuse(mode) : 0;
}

SEC("lsm/socket_create")
int BPF_PROG(on_socket_create, int family, int type, int protocol, int kern)
{
	struct who w = {};
	u8 outcome = OUTCOME_NONE;

	if (kern || has_rules(family) || !find_me(&w, current_task()))
		return 0;
	if (!w.inside && in_host_mounts(current_task()))
		return 0;
	if (w.slot->flags & (SLOT_NET_RESTRICT | SLOT_NET_RULES))
		outcome = outcome_of(w.slot->mode[CONTROL_NETWORK]);
	if (told(&w, KIND_SOCKET, outcome, family, type))
		emit_socket(&w, KIND_SOCKET, CONTROL_NETWORK, outcome, family, 0, 0);
	return outcome == OUTCOME_PREVENTED ? -EPERM : 0;
}
