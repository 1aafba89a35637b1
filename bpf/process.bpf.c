//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Processes and containers: fork, exec, exit, and the cgroups that containers
// are. On hosts without BPF LSM the exec decision acts here: the signal is
// pending before the new program's first instruction.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "include/read.h"
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/births.h"
#include "include/introduce.h"
#include "include/digest.h"
#include "include/path.h"
#include "include/exec.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct work);
	__uint(max_entries, 1);
} exec_work SEC(".maps");

// Where an execution is put together before it is known whether to tell of it.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct exec_event);
	__uint(max_entries, 1);
} exec_room SEC(".maps");

// The layouts that ride in the rings, for the Go side.
const struct exec_event *unused_exec __attribute__((unused));
const struct fork_event *unused_fork __attribute__((unused));
const struct exit_event *unused_exit __attribute__((unused));
const struct open_event *unused_open __attribute__((unused));
const struct net_event *unused_net __attribute__((unused));
const struct flow_event *unused_flow __attribute__((unused));
const struct container_event *unused_container __attribute__((unused));
const struct privilege_event *unused_privilege __attribute__((unused));

static __always_inline void remember(struct task_struct *task, struct proc *p)
{
	u32 tgid = READ(task, tgid);

	p->start = start_of(task);
	bpf_map_update_elem(&procs, &tgid, p, BPF_ANY);
}

// tell_bomb tells of the process that forked once too often. What policy wants
// done about it the agent does: who forks is not who is to be stopped.
static __always_inline void tell_bomb(struct who *w, struct task_struct *parent)
{
	struct fork_event *e;

	if (!w->slot->mode[CONTROL_FORK_BOMB])
		return;
	introduce(w, OUTCOME_DETECTED);
	e = reserve(struct fork_event, KIND_FORK, OUTCOME_DETECTED);
	if (!e) {
		count_dropped(KIND_FORK, OUTCOME_DETECTED);
		return;
	}
	fill_head(&e->head, w, KIND_FORK);
	fill_task(&e->head, parent);
	e->head.control = CONTROL_FORK_BOMB;
	e->head.mode = MODE_DETECT;
	e->head.outcome = OUTCOME_DETECTED;
	e->act = w->proc ? w->proc->act : 0;
	bpf_ringbuf_submit(e, 0);
}

SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0];
	struct task_struct *child = (void *)ctx->args[1];
	struct who parents = {}, w = {};
	struct proc new = {};

	if (READ(child, pid) != READ(child, tgid))
		return 0; // a thread
	if (find_me(&parents, parent))
		new.inside = parents.inside;
	if (new.inside)
		w = parents; // wherever it is born
	else if (!find_who(&w, child))
		return 0;
	if (READ(child, files) == READ(parent, files)) {
		new.shares = 1;
		if (parents.proc)
			parents.proc->shares = 1;
	}
	// A child runs what its parent does until it executes something itself.
	if (parents.proc) {
		new.act = parents.proc->act;
		new.forks = parents.proc->forks + (parents.proc->forks < 255);
	}
	new.cgroup = w.cgroup;
	remember(child, &new);
	if (new.inside && born(w.container, new.start, new.forks))
		tell_bomb(&w, parent);
	return 0;
}

// The kernel of the host runs programs by itself, as root and outside of every
// container: for release_agent, core_pattern, uevent_helper, modprobe. Whoever
// made one of those name a file of a container's escapes by it, whatever way
// the name was written.
static const struct container nobody;

static __always_inline int judge_helper(struct task_struct *task, struct linux_binprm *bprm)
{
	struct config *c = configuration();
	struct who w = {};
	struct work *work;
	struct file *file;
	u32 zero = 0, rule;
	u8 outcome = OUTCOME_DETECTED;

	if (!c || !(READ(task, real_parent, flags) & PF_KTHREAD))
		return 0;
	w.container = (struct container *)&nobody;
	w.slot_number = c->default_slot;
	w.slot = bpf_map_lookup_elem(&slots, &w.slot_number);
	work = bpf_map_lookup_elem(&exec_work, &zero);
	if (!w.slot || !work || !w.slot->mode[CONTROL_HELPER])
		return 0;
	work->facts = 0;
	if (READ(bprm, interp) != READ(bprm, filename)) {
		// Of a script only the name is left; one that means something else
		// than it says is no administrator's.
		work->facts = EXEC_SCRIPT;
		take_path(work, READ(bprm, filename));
		if (!work->flags && rule_of(work, STORAGE_SLOT, &rule) == VERDICT_NONE)
			return 0;
	}
	file = READ(bprm, file);
	if (!work->facts) {
		walk_path(work, &file->f_path, task);
		if (!(work->flags & EXEC_PATH_FOREIGN) && rule_of(work, STORAGE_SLOT, &rule) == VERDICT_NONE)
			return 0;
	}
	work->facts |= work->flags;
	work->mode = MODE_OFF;
	consider(work, w.slot, CONTROL_HELPER, 0);
	if (work->mode >= MODE_BLOCK) {
		bpf_send_signal(SIGKILL);
		outcome = OUTCOME_KILLED;
	}
	emit_exec(work, &w, task, bprm, outcome, outcome == OUTCOME_KILLED ? MECHANISM_EXEC_KILL : MECHANISM_NONE);
	return 0;
}

static const u8 no_bytes[256 + 256 + ARGS_LEN];

// act_of digests the current process's execution, in exec_room: whatever a detection could look at, who did it, and
// how that one's program came to run. Not the numbers of processes, nor the time.
__noinline u64 act_of(void)
{
	struct task_struct *parent = READ(current_task(), group_leader, real_parent);
	struct config *c = configuration();
	struct proc *p = proc_of(parent, READ(parent, tgid));
	struct exec_event *e;
	struct digest d;
	u32 zero = 0;

	e = bpf_map_lookup_elem(&exec_room, &zero);
	if (!c || !e)
		return 0;
	digest_begin(&d, c->secret);
	digest_word(&d, e->head.cgroup);
	digest_word(&d, p ? p->act : 0);
	digest_word(&d, e->ino);
	digest_word(&d, e->dev);
	digest_word(&d, (u64)e->flags << 32 | e->euid);
	digest_word(&d, e->caps);
	digest_word(&d, (u64)e->head.uid << 32 | e->head.gid);
	digest_word(&d, *(u64 *)e->head.comm);
	digest_word(&d, *(u64 *)(e->head.comm + 8));
	digest_word(&d, e->args_len);
	digest_words(&d, e->path, sizeof(e->path) / 8);
	digest_words(&d, e->args, sizeof(e->args) / 8);
	if (e->flags & EXEC_SCRIPT)
		digest_words(&d, e->script, sizeof(e->script) / 8);
	return digest_end(&d);
}

// describe puts an execution together in its room, and notes which one it was that
// made the process what it runs, also where something is decided about it: else what
// such a program starts would pass for started by the one before it.
static __always_inline void describe(struct exec_event *e, struct work *work, struct who *w,
				     struct task_struct *task, struct linux_binprm *bprm)
{
	bpf_probe_read_kernel(&e->path, sizeof(e->path) + sizeof(e->script) + sizeof(e->args), no_bytes);
	fill_exec(e, work, w, task, bprm, OUTCOME_NONE, MECHANISM_NONE);
	e->act = act_of();
	if (w->proc)
		w->proc->act = e->act;
}

// passes_untold says of an execution that nothing is decided about whether it is
// one that nothing came of before.
static __always_inline bool passes_untold(struct exec_event *e)
{
	struct repeats *f;
	struct counter *n;

	f = bpf_map_lookup_elem(&familiar, &e->act);
	if (!f)
		return false;
	__sync_fetch_and_add(&f->count, 1);
	n = counter_of(KIND_EXEC, OUTCOME_NONE);
	if (n)
		n->repeated++;
	return true;
}

// tell_exec sends an execution that nothing was decided about, unless it is
// familiar.
static __always_inline void tell_exec(struct exec_event *e, struct work *work, struct who *w)
{
	if (passes_untold(e) && work->owner == bpf_get_current_pid_tgid())
		return;
	if (w->proc)
		w->proc->told = TOLD_NOW | TOLD_ONCE;
	introduce_lineage(1, w->cgroup, w->slot_number, OUTCOME_NONE);
	count_emitted(KIND_EXEC, OUTCOME_NONE);
	if (bpf_ringbuf_output(&events, e, sizeof(*e), quietly()))
		count_dropped(KIND_EXEC, OUTCOME_NONE);
}

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct linux_binprm *bprm = (void *)ctx->args[2];
	struct who w = {};
	struct exec_event *e;
	struct work *work;
	u32 zero = 0, tgid;
	u8 outcome = OUTCOME_NONE, mechanism = MECHANISM_NONE;
	u64 self = bpf_get_current_pid_tgid();

	if (!find_me(&w, task))
		return judge_helper(task, bprm);
	// The runtime prepares the container in the host's mount namespace, and
	// re-executes itself from memory there. Exempt by where it stands.
	if (!w.inside && in_host_mounts(task))
		return 0;
	if (w.proc && w.proc->inside && w.proc->cgroup == w.cgroup) {
		w.proc->told &= ~TOLD_NOW;
		w.proc->shares = 0; // exec gives it a table of its own
		ran(w.container, w.proc);
	} else {
		struct proc new = {.cgroup = w.cgroup, .inside = 1};

		remember(task, &new);
		tgid = self >> 32;
		w.proc = bpf_map_lookup_elem(&procs, &tgid);
	}
	work = bpf_map_lookup_elem(&exec_work, &zero);
	e = bpf_map_lookup_elem(&exec_room, &zero);
	if (!work || !e)
		return 0;
	work->owner = self;
	judge_exec(work, &w, task, bprm);
	if (work->owner != self) {
		// Another exec ran in between on this CPU and used the same room.
		work->flags = EXEC_PATH_TRUNCATED;
		work->facts |= EXEC_PATH_TRUNCATED;
		if (w.slot->flags & SLOT_EXEC_RULES)
			consider(work, w.slot, CONTROL_EXEC, 0);
	}
	describe(e, work, &w, task, bprm);
	if (work->mode >= MODE_BLOCK) {
		bpf_send_signal(SIGKILL);
		outcome = OUTCOME_KILLED;
		mechanism = MECHANISM_EXEC_KILL;
	} else if (work->mode == MODE_DETECT) {
		outcome = OUTCOME_DETECTED;
	} else {
		tell_exec(e, work, &w);
		return 0;
	}
	if (w.proc)
		w.proc->told = TOLD_NOW | TOLD_ONCE;
	introduce_lineage(1, w.cgroup, w.slot_number, outcome);
	emit_exec(work, &w, task, bprm, outcome, mechanism);
	return 0;
}

// forget ends what is known of a process; false: another thread was quicker. Two
// that end at once both find that no other one is left.
static __always_inline bool forget(struct proc *p, u32 tgid)
{
	struct stranger u = {.start = p->start, .act = p->act};

	if (bpf_map_delete_elem(&procs, &tgid))
		return false;
	if (!(p->told & TOLD_ONCE)) // kept for a while, for events that come late
		bpf_map_update_elem(&strangers, &tgid, &u, BPF_ANY);
	return true;
}

SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct exit_event *e;
	struct who w = {};
	struct counter *n;
	struct proc p;

	if (!find_me(&w, task) || !w.proc)
		return 0;
	if (READ(task, signal, live.counter) > 0)
		return 0; // other threads go on
	p = *w.proc;
	if (!forget(&p, READ(task, tgid)))
		return 0;
	died(w.container, &p);
	if (!(p.told & TOLD_ONCE)) {
		n = counter_of(KIND_EXIT, OUTCOME_NONE);
		if (n)
			n->repeated++;
		return 0;
	}
	if (!w.inside && in_host_mounts(task))
		return 0;
	e = reserve(struct exit_event, KIND_EXIT, 0);
	if (!e) {
		count_dropped(KIND_EXIT, 0);
		return 0;
	}
	fill_head(&e->head, &w, KIND_EXIT);
	fill_task(&e->head, task);
	e->code = READ(task, exit_code);
	e->pad = 0;
	submit_quietly(e, 0);
	return 0;
}

static __always_inline bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// starts_with compares with a constant; n is its length.
static __always_inline bool starts_with(const char *s, const char *prefix, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (s[i] != prefix[i])
			return false;
	return true;
}

#define AFTER(S, PREFIX) \
	(starts_with(S, PREFIX, sizeof(PREFIX) - 1) ? sizeof(PREFIX) - 1 : 0)

#define NAME_LEN 96

// container_id finds the id in a cgroup's name as the engines write it: 64
// hexadecimal digits alone (cgroupfs), or with the engine's prefix and, from
// systemd, ".scope". Helpers' groups (libpod-conmon-…) do not match.
static __always_inline bool container_id(const char *name, u8 *id)
{
	u32 at = 0;

	at = AFTER(name, "docker-") ?: AFTER(name, "libpod-") ?: AFTER(name, "cri-containerd-")
		?: AFTER(name, "crio-");
	for (u32 i = 0; i < ID_LEN; i++) {
		char c = name[(at + i) & 127];

		if (!is_hex(c))
			return false;
		id[i] = c;
	}
	at = (at + ID_LEN) & 127;
	if (at >= NAME_LEN - 8)
		return false;
	return name[at] == 0 || starts_with(name + at, ".scope", 7);
}

static __always_inline s64 wall_clock(struct config *c)
{
	// TAI follows every step of the wall clock; the boot clock, on kernels
	// before 6.1, is as right as the agent's last word on its offset.
	if (bpf_core_enum_value_exists(enum bpf_func_id___has, BPF_FUNC_ktime_get_tai_ns___has))
		return bpf_ktime_get_tai_ns() + c->real_offset;
	return bpf_ktime_get_boot_ns() + c->real_offset;
}

// Files are stamped from a clock that stands still between ticks: at most 10 ms
// (HZ=100). Whatever was written after the container's start is stamped later
// than the start less this.
#define COARSE_TICK 10000000LL

#define DEPTH 12

// in_scope: containers may be limited to those below one cgroup.
static __always_inline bool in_scope(struct cgroup *cgroup, u64 under)
{
	struct cgroup_subsys_state *css = READ(cgroup, self.parent);

	if (!under)
		return true;
	for (u32 i = 0; i < DEPTH && css; i++) {
		if (READ(css, cgroup, kn, id) == under)
			return true;
		css = READ(css, parent);
	}
	return false;
}

static __always_inline void tell_container(struct container *c, u64 cgroup, u32 gone)
{
	struct who w = {.container = c, .cgroup = cgroup, .slot_number = c->slot};
	struct container_event *e;

	// In the decisions' ring: the agent must learn of containers whatever
	// the others do to the telemetry's.
	count_emitted(KIND_CONTAINER, 0);
	e = bpf_ringbuf_reserve(&decisions, sizeof(*e), 0);
	if (!e) {
		count_dropped(KIND_CONTAINER, 0);
		return;
	}
	fill_head(&e->head, &w, KIND_CONTAINER);
	e->started_real = c->started_real;
	e->gone = gone;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

// nest counts a container's nested groups, so that no container can fill the map
// with them. Beyond the bound its processes are known by their lineage only.
#define NESTED_MOST 512

static __always_inline bool nest(u64 root, int change)
{
	struct container *c = bpf_map_lookup_elem(&containers, &root);

	if (!c)
		return false;
	if (change > 0 ? c->flags / CONTAINER_NESTED >= NESTED_MOST : c->flags < CONTAINER_NESTED)
		return false;
	__sync_fetch_and_add(&c->flags, change * CONTAINER_NESTED);
	return true;
}

SEC("raw_tp/cgroup_mkdir")
int on_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (void *)ctx->args[0];
	struct config *c = configuration();
	struct container new = {}, *parent;
	struct who me = {};
	char name[128] = {};
	u64 id, up;
	u32 *slot;

	if (!c || READ(cgroup, root, hierarchy_id) != c->hierarchy)
		return 0;
	id = READ(cgroup, kn, id);
	up = READ(cgroup, self.parent, cgroup, kn, id);
	// A group below a container's belongs to that container whatever its name.
	parent = bpf_map_lookup_elem(&containers, &up);
	if (parent) {
		new = *parent;
		if (nest(new.root, 1))
			bpf_map_update_elem(&containers, &id, &new, BPF_ANY);
		return 0;
	}
	// What a container's process makes elsewhere is no container: its own
	// lineage is judged wherever it moves.
	if (find_me(&me, current_task()) && me.inside)
		return 0;
	bpf_probe_read_kernel_str(name, NAME_LEN, READ(cgroup, kn, name));
	if (!container_id(name, new.id) || !in_scope(cgroup, c->under))
		return 0;
	new.root = id;
	new.started_boot = bpf_ktime_get_boot_ns();
	new.started_real = wall_clock(c) - COARSE_TICK;
	slot = bpf_map_lookup_elem(&assigned, new.id);
	new.slot = slot ? *slot : c->default_slot;
	bpf_map_update_elem(&containers, &id, &new, BPF_ANY);
	tell_container(&new, id, 0);
	return 0;
}

SEC("raw_tp/cgroup_rmdir")
int on_cgroup_rmdir(struct bpf_raw_tracepoint_args *ctx)
{
	struct cgroup *cgroup = (void *)ctx->args[0];
	struct container *c, copy;
	u64 id = READ(cgroup, kn, id);
	struct config *conf = configuration();

	if (!conf || READ(cgroup, root, hierarchy_id) != conf->hierarchy)
		return 0;
	c = bpf_map_lookup_elem(&containers, &id);
	if (!c)
		return 0;
	copy = *c;
	bpf_map_delete_elem(&containers, &id);
	if (copy.root == id)
		tell_container(&copy, id, 1);
	else
		nest(copy.root, -1);
	return 0;
}
