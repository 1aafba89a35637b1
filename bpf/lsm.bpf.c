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
#include "include/refuse.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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
	introduce(&w, OUTCOME_PREVENTED);
	emit_exec(work, &w, task, bprm, OUTCOME_PREVENTED, MECHANISM_LSM);
	return -EPERM;
}

// Files whose writing means escape, and those that somebody watches.
SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	struct task_struct *task = current_task();
	bool write = READ(file, f_mode) & FMODE_WRITE || READ(file, f_flags) & O_TRUNC;
	struct inode *inode = READ(file, f_inode);
	struct who w = {};
	struct work *work;
	u8 control = write ? escape_by(file) : NO_CONTROL, mode = MODE_OFF, outcome;
	bool watched;
	u32 rule;

	watched = may_be_watched(READ(file, f_path.dentry));
	if (control == NO_CONTROL && !watched && !rules_about_files())
		return 0;
	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	if (control == NO_CONTROL && !watched && !(w.slot->flags & SLOT_FILE_RULES))
		return 0;
	if (control != NO_CONTROL)
		mode = w.slot->mode[control & 31];
	work = task_room();
	if (!work)
		return answer(outcome_of(mode), mode);
	work->control = control;
	work->mode = mode;
	walk_path(work, &file->f_path, task);
	if (control == NO_CONTROL)
		judge_file(work, &w, write);
	mode = work->mode;
	outcome = outcome_of(mode);
	if (control == NO_CONTROL && mode == MODE_OFF && rule_of(work, 0, &rule) != VERDICT_ALLOW)
		return 0; // nobody watches it
	if (told(&w, KIND_OPEN, write << 2 | outcome, READ(inode, i_ino), READ(inode, i_sb, s_dev)))
		emit_open(work, &w, task, inode, write, ACT_OPEN, outcome);
	return answer(outcome, mode);
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
		emit_open(work, &w, task, inode, 0, ACT_OPEN, outcome);
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
