// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Processes that nobody was told of, because what they did was nothing new, are
// told of when they, or those they made, do something new.
#ifndef BREAKWATER_INTRODUCE_H
#define BREAKWATER_INTRODUCE_H

// LINEAGE bounds how many ancestors go with one event.
#define LINEAGE 8

// tell_start sends what a process runs: in the ring of the event that needs it,
// so that it is read before. In the decisions' it wakes the reader: the event behind
// it does not, as somebody seems to be reading then.
static __always_inline bool tell_start(struct who *w, struct task_struct *task, u64 act, u8 outcome)
{
	struct fork_event *e;

	count_emitted(KIND_FORK, 0);
	e = outcome ? bpf_ringbuf_reserve(&decisions, sizeof(*e), 0)
		    : bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_dropped(KIND_FORK, 0);
		return false;
	}
	fill_head(&e->head, w, KIND_FORK);
	fill_task(&e->head, task);
	e->act = act;
	bpf_ringbuf_submit(e, outcome ? 0 : BPF_RB_NO_WAKEUP);
	return true;
}

// introduce_lineage tells of the current process, or with above of its parent, and
// its ancestors inside, up to the first that was told of: that one's were, too. A
// function of its own, with numbers for arguments, that the verifier looks at once
// and not at each call.
__noinline int introduce_lineage(u32 above, u64 cgroup, u32 slot, u32 outcome)
{
	struct task_struct *task = READ(current_task(), group_leader);
	struct who w = {.cgroup = cgroup, .slot_number = slot};

	w.container = bpf_map_lookup_elem(&containers, &cgroup);
	if (!w.container)
		return 0;
	if (above)
		task = READ(task, real_parent, group_leader);
	for (u64 i = 0; i < LINEAGE; i++) { // 64 bits: the verifier forgets what of a smaller number lies on the stack
		struct proc *p = proc_of(task, READ(task, tgid));

		if (!p || p->told & TOLD_NOW)
			break;
		if (!p->inside && in_host_mounts(task))
			break; // the runtime's own set-up
		if (tell_start(&w, task, p->act, outcome))
			p->told = TOLD_NOW | TOLD_ONCE;
		task = READ(task, real_parent, group_leader);
	}
	return 0;
}

// introduce comes before an event about the current process is sent.
static __always_inline void introduce(struct who *w, u8 outcome)
{
	if (w->proc && !(w->proc->told & TOLD_NOW))
		introduce_lineage(0, w->cgroup, w->slot_number, outcome);
}

#endif
