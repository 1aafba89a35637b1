// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Who acts: the container of the current task, found by its lineage once it has
// run a program inside, wherever it moved since, and by its cgroup before.
#ifndef BREAKWATER_WHO_H
#define BREAKWATER_WHO_H

struct who {
	struct container *container; // of the container itself, never of a nested cgroup
	struct slot *slot;
	struct proc *proc; // 0: not known yet
	u64 cgroup;
	u32 slot_number;
	u32 inside;
};

static __always_inline struct config *configuration(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline u64 task_cgroup(struct task_struct *task, struct config *c)
{
	struct css_set *set = READ(task, cgroups);
	struct cgroup_subsys_state *css = 0;

	if (c->subsys < 0)
		return READ(set, dfl_cgrp, kn, id);
	bpf_probe_read_kernel(&css, sizeof(css),
			      (void *)set + bpf_core_field_offset(struct css_set, subsys) +
				      (c->subsys & 15) * sizeof(void *));
	return READ(css, cgroup, kn, id);
}

static __always_inline struct container *container_of_cgroup(u64 id)
{
	struct container *c = bpf_map_lookup_elem(&containers, &id);
	u64 root;

	if (!c)
		return 0;
	root = c->root;
	if (root == id)
		return c;
	return bpf_map_lookup_elem(&containers, &root);
}

// start_of is when a thread group began, in ns since boot rounded down to the
// 10 ms that /proc tells, so that both name a process alike.
static __always_inline u64 started(struct task_struct *leader)
{
	u64 start = READ(leader, start_boottime);

	return start - start % 10000000;
}

static __always_inline u64 start_of(struct task_struct *task)
{
	return started(READ(task, group_leader));
}

static __always_inline struct proc *proc_of(struct task_struct *task, u32 tgid)
{
	struct proc *p = bpf_map_lookup_elem(&procs, &tgid);

	if (!p || p->start != start_of(task))
		return 0; // a number that was used before
	return p;
}

static __always_inline bool identify(struct who *w, struct task_struct *task, u32 tgid)
{
	struct proc *p = proc_of(task, tgid);

	// Whoever ran inside a container stays that container's: it may have the
	// right to join another one's cgroup, or to make one named like a container's.
	w->container = p && p->inside ? container_of_cgroup(p->cgroup) : 0;
	if (!w->container)
		w->container = container_of_cgroup(w->cgroup);
	if (!w->container && p)
		w->container = container_of_cgroup(p->cgroup);
	if (!w->container)
		return false;
	w->cgroup = w->container->root;
	w->proc = p;
	w->inside = p ? p->inside : 0;
	w->slot_number = w->container->slot;
	w->slot = bpf_map_lookup_elem(&slots, &w->slot_number);
	return w->slot != 0;
}

// find_who says which container a task belongs to; false: none, and then
// every program lets it pass before it looks at anything else.
static __always_inline bool find_who(struct who *w, struct task_struct *task)
{
	struct config *c = configuration();

	if (!c)
		return false;
	w->cgroup = task_cgroup(task, c);
	return identify(w, task, READ(task, tgid));
}

// find_me is find_who for the current task: helpers answer cheaper.
static __always_inline bool find_me(struct who *w, struct task_struct *task)
{
	struct config *c = configuration();

	if (!c)
		return false;
	w->cgroup = c->subsys < 0 ? bpf_get_current_cgroup_id() : task_cgroup(task, c);
	return identify(w, task, bpf_get_current_pid_tgid() >> 32);
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline bool in_host_mounts(struct task_struct *task)
{
	struct config *c = configuration();

	return c && READ(task, nsproxy, mnt_ns, ns.inum) == c->host_mntns;
}

#endif
