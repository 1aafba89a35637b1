//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Tier 1: rights that a process asks the kernel for, refused where no container
// has any business with them. Needs bpf_task_pt_regs (5.15).
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
#include "include/call.h"
#include "include/privilege.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("lsm/capable")
int BPF_PROG(on_lsm_capable, struct cred *cred, void *ns, int capability, unsigned int opts)
{
	struct privilege p = {.capability = capability, .granted = true};
	u8 outcome;

	if (ordinary(capability) || opts & CAP_OPT_NOAUDIT || !find_privilege(&p))
		return 0;
	outcome = p.mode >= MODE_BLOCK ? OUTCOME_PREVENTED : p.mode ? OUTCOME_DETECTED : OUTCOME_NONE;
	tell_privilege(&p, outcome, outcome == OUTCOME_PREVENTED ? MECHANISM_LSM : MECHANISM_NONE);
	if (outcome != OUTCOME_PREVENTED)
		return 0;
	if (p.mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	asm volatile("" ::: "memory");
	return -EPERM;
}
