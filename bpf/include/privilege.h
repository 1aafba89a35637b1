// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Rights that a container's process asks the kernel for, and those acts among
// them that no container has any business with.
#ifndef BREAKWATER_PRIVILEGE_H
#define BREAKWATER_PRIVILEGE_H

#define BPF_PROG_LOAD 5			// enum bpf_cmd
#define BPF_PROG_TYPE_CGROUP_DEVICE 15	// enum bpf_prog_type

// loads_program: the call brings a program into the kernel. A list of devices for
// a cgroup is one, too, which engines inside of containers make for theirs; it can
// only refuse. The type is in the caller's memory, which may have changed since:
// who may call bpf(2) can undo tier 2 anyway, and tier 1 asks LSM (right.bpf.c).
static __always_inline bool loads_program(struct call *call)
{
	u32 type = 0;

	if (call->first != BPF_PROG_LOAD)
		return false;
	bpf_probe_read_user(&type, sizeof(type), (void *)call->second);
	return type != BPF_PROG_TYPE_CGROUP_DEVICE;
}

// privilege_control says which always-on control an act falls under that needs
// a right.
static __always_inline u8 privilege_control(u32 capability, struct call *call)
{
	switch (call->kind) {
	case CALL_MODULE:
		return CONTROL_MODULE;
	case CALL_BPF:
		return loads_program(call) ? CONTROL_BPF : NO_CONTROL;
	case CALL_HANDLE:
		return capability == CAP_DAC_READ_SEARCH ? CONTROL_HANDLE : NO_CONTROL;
	}
	return NO_CONTROL;
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

// privilege is a right on its way to be judged.
struct privilege {
	struct call call;
	struct who who;
	u32 capability;
	bool granted;
	u8 control;
	u8 mode;
};

// borrowed: the kernel acts for the process with somebody else's rights, as an
// overlay file system does with those of who mounted it.
static __always_inline bool borrowed(const void *cred, u32 capability)
{
	if (capability == CAP_NET_RAW) // no file system asks for it; a ring of io_uring may
		return false;
	return cred != READ(current_task(), real_cred);
}

// find_privilege says whether somebody in a container asks, and for what. What the
// runtime does before it starts the container's program is its own set-up.
static __always_inline bool find_privilege(struct privilege *p)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (accounts(regs))
		return false;
	what_right(&p->call, regs);
	if (p->call.kind == CALL_MEMORY || !find_me(&p->who, current_task()))
		return false;
	if (!p->who.inside)
		return false;
	p->control = p->granted ? privilege_control(p->capability, &p->call) : NO_CONTROL;
	p->mode = p->control == NO_CONTROL ? MODE_OFF : p->who.slot->mode[p->control & 31];
	return true;
}

static __always_inline void emit_privilege(struct privilege *p, u8 outcome, u8 mechanism)
{
	struct privilege_event *e;

	introduce(&p->who, outcome);
	e = reserve(struct privilege_event, KIND_PRIVILEGE, outcome);

	if (!e) {
		count_dropped(KIND_PRIVILEGE, outcome);
		return;
	}
	fill_head(&e->head, &p->who, KIND_PRIVILEGE);
	fill_task(&e->head, current_task());
	if (outcome) {
		e->head.control = p->control;
		e->head.mode = p->mode;
		e->head.outcome = outcome;
		e->head.mechanism = mechanism;
		e->head.shared = mechanism == MECHANISM_SYSCALL_KILL ? shared(&p->who, current_task()) : 0;
	}
	e->capability = p->capability;
	e->granted = p->granted && outcome != OUTCOME_PREVENTED;
	e->call = p->call.number;
	e->compat = p->call.compat;
	e->args[0] = p->call.first;
	e->args[1] = p->call.second;
	e->args[2] = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void tell_privilege(struct privilege *p, u8 outcome, u8 mechanism)
{
	struct seen_key key = {};
	u64 repeats;

	key.cgroup = p->who.cgroup;
	key.start = start_of(current_task());
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kind = KIND_PRIVILEGE;
	key.detail = p->granted << 2 | outcome;
	key.port = p->capability;
	*(u64 *)key.addr = p->call.number;
	if (worth_telling(&key, outcome, &repeats))
		emit_privilege(p, outcome, mechanism);
}

#endif
