//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Sysctls that name programs for the host's kernel to run.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "include/read.h"
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/introduce.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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
	introduce(&w, outcome);
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
		e->act = ACT_OPEN;
		e->pad = 0;
		__builtin_memcpy(e->path, path, sizeof(path));
		bpf_ringbuf_submit(e, 0);
	} else {
		count_dropped(KIND_OPEN, outcome);
	}
	return outcome != OUTCOME_PREVENTED;
}
