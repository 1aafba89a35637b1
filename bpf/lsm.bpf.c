//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Tier 1: the exec decision where the kernel asks for it. A script's own file
// is asked about here before its interpreter.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/path.h"
#include "include/exec.h"

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
