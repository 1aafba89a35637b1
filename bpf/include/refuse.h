// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// What the programs of tier 1 share: room, and what a hook answers.
#ifndef BREAKWATER_REFUSE_H
#define BREAKWATER_REFUSE_H

// LSM programs can be preempted: room of each task's own, not of the CPU's.
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct work);
} task_work SEC(".maps");

// told says whether an act that is not refused is worth an event: the first time
// that a process does it, and once a second where policy has a word on it.
static __always_inline bool told(struct who *w, u8 kind, u8 detail, u64 what, u64 where)
{
	struct seen_key key = {};
	u64 repeats;

	key.cgroup = w->cgroup;
	key.start = start_of(current_task());
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.kind = kind;
	key.detail = detail;
	*(u64 *)key.addr = what;
	*(u64 *)(key.addr + 8) = where;
	return worth_telling(&key, detail & 3, &repeats);
}

static __always_inline u8 outcome_of(u8 mode)
{
	return mode >= MODE_BLOCK ? OUTCOME_PREVENTED : mode == MODE_DETECT ? OUTCOME_DETECTED : OUTCOME_NONE;
}

// refuse ends the program that a mode wants ended, and says what the hook returns.
static __always_inline int refuse(u8 mode)
{
	if (mode == MODE_KILL)
		bpf_send_signal(SIGKILL);
	return -EPERM;
}

// answer is what a hook returns for an outcome.
static __always_inline int answer(u8 outcome, u8 mode)
{
	if (outcome != OUTCOME_PREVENTED)
		return 0;
	asm volatile("" ::: "memory"); // the verifier wants to see that only 0 and -EPERM come out
	return refuse(mode);
}

static __always_inline struct work *task_room(void)
{
	return bpf_task_storage_get(&task_work, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

// may_be_watched asks for a file's name, and its folder's, before the whole path
// is looked at: almost all files end here.
static __always_inline bool may_be_watched(struct dentry *d)
{
	struct leaf_key key = {};
	u32 *kinds;

	bpf_probe_read_kernel_str(key.name, sizeof(key.name), READ(d, d_name.name));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	if (kinds && *kinds & LEAF_FILE)
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	bpf_probe_read_kernel_str(key.name, sizeof(key.name), READ(d, d_parent, d_name.name));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	if (kinds && *kinds & LEAF_FOLDER)
		return true;
	__builtin_memset(&key, 0, sizeof(key));
	kinds = bpf_map_lookup_elem(&leaves, &key);
	return kinds && *kinds & LEAF_DEEP;
}

#endif
