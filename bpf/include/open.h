// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// What is known and told of opened files and sockets: shared by both tiers.
#ifndef BREAKWATER_OPEN_H
#define BREAKWATER_OPEN_H

static __always_inline bool is_named(struct dentry *d, const char *word, u32 n)
{
	char name[32] = {};

	if (READ(d, d_name.len) != n)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), READ(d, d_name.name));
	for (u32 i = 0; i < n; i++)
		if (name[i] != word[i])
			return false;
	return true;
}

// shared: another process has this one's table of descriptors, and so what it
// just opened, and goes on when this one is killed (clone with CLONE_FILES).
// Threads that are about to end leave the count of live ones first.
static __always_inline u8 shared(struct who *w, struct task_struct *task)
{
	if (!w->proc || !w->proc->shares)
		return 0;
	return READ(task, files, count.counter) > READ(task, signal, live.counter);
}

static __always_inline void emit_open(struct work *work, struct who *w, struct task_struct *task,
				      struct inode *inode, u32 write, u32 act, u8 outcome)
{
	struct open_event *e;

	introduce(w, outcome);
	e = reserve(struct open_event, KIND_OPEN, outcome);

	if (!e) {
		count_dropped(KIND_OPEN, outcome);
		return;
	}
	fill_head(&e->head, w, KIND_OPEN);
	fill_task(&e->head, task);
	e->head.control = work->control;
	e->head.mode = work->mode;
	e->head.outcome = outcome;
	if (work->control == CONTROL_FILES) // the others have no rules of their own
		e->head.rule = work->rule;
	if (outcome == OUTCOME_KILLED) {
		e->head.mechanism = MECHANISM_SYSCALL_KILL;
		e->head.shared = shared(w, task);
	} else if (outcome == OUTCOME_PREVENTED) {
		e->head.mechanism = MECHANISM_LSM;
	}
	e->ino = READ(inode, i_ino);
	e->dev = READ(inode, i_sb, s_dev);
	e->magic = READ(inode, i_sb, s_magic);
	e->write = write;
	e->flags = work->flags;
	e->act = act;
	e->pad = 0;
	e->path[0] = 0;
	bpf_probe_read_kernel_str(e->path, sizeof(e->path), work->key.path);
	bpf_ringbuf_submit(e, 0);
}

// escape_by says which always-on control the writing of a file falls under.
static __always_inline u8 escape_by(struct file *file)
{
	u64 magic = READ(file, f_inode, i_sb, s_magic);

	if (magic == CGROUP_SUPER_MAGIC &&
	    is_named(READ(file, f_path.dentry), "release_agent", 13))
		return CONTROL_RELEASE_AGENT;
	if (magic == PROC_SUPER_MAGIC &&
	    is_named(READ(file, f_path.dentry), "core_pattern", 12))
		return CONTROL_CORE_PATTERN;
	return NO_CONTROL;
}

// rules_about_files: the policy of some container has any.
static __always_inline bool rules_about_files(void)
{
	struct config *c = configuration();

	return c && c->flags & CONFIG_FILES;
}

// judge_file holds a file, whose path was walked, against the rules of a slot. One
// that is not below the container's root, as a pipe, matches none.
static __always_inline void judge_file(struct work *work, struct who *w, bool write)
{
	u32 rule;
	u8 verdict;

	if (!(w->slot->flags & SLOT_FILE_RULES))
		return;
	verdict = rule_of(work, FILES_SLOT + w->slot_number, &rule);
	if (verdict & FILE_DENIED || (write && verdict & FILE_READONLY))
		consider(work, w->slot, CONTROL_FILES, rule);
	else if (verdict & FILE_DENIED_AUDITED || (write && verdict & FILE_READONLY_AUDITED))
		consider(work, w->slot, CONTROL_FILES_AUDITED, 0);
}

// has_rules: what these families reach, other hooks judge, or it is no peer.
static __always_inline bool has_rules(u16 family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_UNIX || family == AF_NETLINK ||
	       family == AF_ALG;
}

static __always_inline void emit_socket(struct who *w, u8 kind, u8 control, u8 outcome, u16 family,
					u64 ino, struct unix_address *addr)
{
	struct net_event *e;

	introduce(w, outcome);
	e = reserve(struct net_event, kind, outcome);

	if (!e) {
		count_dropped(kind, outcome);
		return;
	}
	fill_head(&e->head, w, kind);
	fill_task(&e->head, current_task());
	__builtin_memset(e->addr, 0, 16);
	e->head.control = outcome ? control : NO_CONTROL;
	e->head.mode = outcome ? w->slot->mode[control & 31] : 0;
	e->head.outcome = outcome;
	if (outcome == OUTCOME_KILLED) {
		e->head.mechanism = MECHANISM_SYSCALL_KILL;
		e->head.shared = shared(w, current_task());
	} else if (outcome == OUTCOME_PREVENTED) {
		e->head.mechanism = MECHANISM_LSM;
	}
	e->port = 0;
	e->family = family;
	e->transport = family == AF_PACKET ? 255 : 0;
	e->pad = 0;
	e->ino = ino;
	e->path[0] = 0;
	if (addr)
		bpf_probe_read_kernel_str(e->path, sizeof(e->path), &addr->name[0].sun_path);
	bpf_ringbuf_submit(e, 0);
}

// stop ends the current process when its call returns, where the mode says so.
static __always_inline u8 stop(u8 mode)
{
	if (mode == MODE_OFF)
		return OUTCOME_NONE;
	if (mode == MODE_DETECT)
		return OUTCOME_DETECTED;
	bpf_send_signal(SIGKILL);
	return OUTCOME_KILLED;
}

// is_engine: the socket's path is a container engine's; key is its file.
static __always_inline bool is_engine(struct sock *sk, struct file_key *key)
{
	struct inode *inode = READ((struct unix_sock *)sk, path.dentry, d_inode);

	if (!inode)
		return false;
	key->ino = READ(inode, i_ino);
	key->dev = READ(inode, i_sb, s_dev);
	return bpf_map_lookup_elem(&engine_sockets, key) != 0;
}

#endif
