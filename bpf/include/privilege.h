// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Rights that a container's process asks the kernel for, and those acts among
// them that no container has any business with.
#ifndef BREAKWATER_PRIVILEGE_H
#define BREAKWATER_PRIVILEGE_H

// privilege_control says which always-on control an act falls under that needs
// a right. A filter on what a socket takes is a program, too (bpf, 4.8), hence
// only the call that loads programs counts.
static __always_inline u8 privilege_control(u32 capability, struct call *call)
{
	switch (call->kind) {
	case CALL_MODULE:
		return CONTROL_MODULE;
	case CALL_BPF:
		return CONTROL_BPF;
	case CALL_HANDLE:
		return capability == CAP_DAC_READ_SEARCH ? CONTROL_HANDLE : NO_CONTROL;
	}
	return NO_CONTROL;
}

static __always_inline void emit_privilege(struct who *w, struct pt_regs *regs, struct call *call, u32 capability,
					   bool granted, u8 control, u8 outcome, u8 mechanism)
{
	struct privilege_event *e = reserve(struct privilege_event, KIND_PRIVILEGE, outcome);

	if (!e) {
		count_dropped(KIND_PRIVILEGE, outcome);
		return;
	}
	fill_head(&e->head, w, KIND_PRIVILEGE);
	fill_task(&e->head, current_task());
	if (outcome) {
		e->head.control = control;
		e->head.mode = w->slot->mode[control & 31];
		e->head.outcome = outcome;
		e->head.mechanism = mechanism;
		e->head.shared = mechanism == MECHANISM_SYSCALL_KILL ? shared(w, current_task()) : 0;
	}
	e->capability = capability;
	e->granted = granted;
	e->call = call->number;
	e->compat = call->compat;
	e->args[0] = call->first;
	e->args[1] = call->second;
	e->args[2] = 0;
	bpf_ringbuf_submit(e, 0);
}

// ordinary: rights that programs of containers use all the time, whoever they
// are, and whose use tells nothing.
static __always_inline bool ordinary(u32 capability)
{
	// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
	// NET_BIND_SERVICE, IPC_LOCK, SYS_RESOURCE, AUDIT_WRITE, SETFCAP
	const u64 those = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 14 |
			  1 << 24 | 1 << 29 | 1ULL << 31;

	return capability > 63 || those >> capability & 1;
}

#endif
