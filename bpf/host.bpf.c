//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Run once at load: which mount namespace is the host's. /proc/1/ns is not
// always readable, and in a container it is not the host's first process.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ANCESTORS 128

SEC("raw_tp")
int host_mounts(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	for (int i = 0; i < ANCESTORS; i++) {
		if (BPF_CORE_READ(task, tgid) == 1)
			return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
		task = BPF_CORE_READ(task, real_parent);
	}
	return 0;
}
