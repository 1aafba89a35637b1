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
#include "include/introduce.h"
#include "include/path.h"
#include "include/exec.h"
#include "include/open.h"
#include "include/call.h"
#include "include/privilege.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int refuse_privilege(struct privilege *p)
{
	u8 outcome = p->mode >= MODE_BLOCK ? OUTCOME_PREVENTED : p->mode ? OUTCOME_DETECTED : OUTCOME_NONE;

	tell_privilege(p, outcome, outcome == OUTCOME_PREVENTED ? MECHANISM_LSM : MECHANISM_NONE);
	if (outcome != OUTCOME_PREVENTED)
		return 0;
	if (p->mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	asm volatile("" ::: "memory");
	return -EPERM;
}

SEC("lsm/capable")
int BPF_PROG(on_lsm_capable, struct cred *cred, void *ns, int capability, unsigned int opts)
{
	struct privilege p = {.capability = capability, .granted = true};

	if (ordinary(capability) || opts & CAP_OPT_NOAUDIT || borrowed(cred, capability) || !find_privilege(&p))
		return 0;
	if (p.call.kind == CALL_BPF)
		p.mode = MODE_OFF; // asked about below
	return refuse_privilege(&p);
}

// The kernel's own copy of what is to be loaded; its first field is the type.
SEC("lsm/bpf")
int BPF_PROG(on_lsm_bpf, int cmd, u32 *attr, unsigned int size)
{
	struct privilege p = {.capability = CAP_BPF, .granted = true};
	u32 type = 0;

	if (cmd != BPF_PROG_LOAD || !find_privilege(&p))
		return 0;
	bpf_probe_read_kernel(&type, sizeof(type), attr);
	if (type == BPF_PROG_TYPE_CGROUP_DEVICE)
		return 0;
	p.control = CONTROL_BPF;
	p.mode = p.who.slot->mode[CONTROL_BPF];
	return refuse_privilege(&p);
}
