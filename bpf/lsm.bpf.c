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
	emit_exec(work, &w, task, bprm, OUTCOME_PREVENTED, MECHANISM_LSM);
	return -EPERM;
}

// Files whose writing means escape: without BPF LSM the process is killed, but
// whoever shares its descriptors would have one.
SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	struct task_struct *task = current_task();
	struct who w = {};
	struct work *work;
	u8 control;

	if (!(READ(file, f_mode) & FMODE_WRITE))
		return 0;
	control = escape_by(file);
	if (control == NO_CONTROL || !find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	if (w.slot->mode[control & 31] < MODE_BLOCK)
		return 0; // the end of the call reports it
	work = bpf_task_storage_get(&task_work, bpf_get_current_task_btf(), 0,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (work) {
		work->control = control;
		work->mode = w.slot->mode[control & 31];
		walk_path(work, &file->f_path, task);
		emit_open(work, &w, task, READ(file, f_inode), 1, OUTCOME_PREVENTED);
	}
	if (w.slot->mode[control & 31] == MODE_KILL)
		bpf_send_signal(SIGKILL);
	return -EPERM;
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(on_unix_connect, struct sock *sk, struct sock *other, struct sock *newsk)
{
	struct file_key key = {};
	struct who w = {};
	u8 mode;

	if (!is_engine(other, &key) || !find_me(&w, current_task()))
		return 0;
	if (!w.inside && in_host_mounts(current_task()))
		return 0;
	mode = w.slot->mode[CONTROL_ENGINE_SOCKET];
	if (mode < MODE_BLOCK)
		return 0;
	emit_socket(&w, KIND_CONNECT, CONTROL_ENGINE_SOCKET, OUTCOME_PREVENTED, AF_UNIX, key.ino,
		    READ((struct unix_sock *)other, addr));
	if (mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	return -EPERM;
}

SEC("lsm/socket_create")
int BPF_PROG(on_socket_create, int family, int type, int protocol, int kern)
{
	struct who w = {};

	if (kern || has_rules(family) || !find_me(&w, current_task()))
		return 0;
	if (!w.inside && in_host_mounts(current_task()))
		return 0;
	if (!(w.slot->flags & (SLOT_NET_RESTRICT | SLOT_NET_RULES)) ||
	    w.slot->mode[CONTROL_NETWORK] < MODE_BLOCK)
		return 0;
	emit_socket(&w, KIND_SOCKET, CONTROL_NETWORK, OUTCOME_PREVENTED, family, 0, 0);
	return -EPERM;
}
