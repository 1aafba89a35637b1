//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Tier 1: changes of files by their names, which nobody opens for: what is only to
// be read stays as it is, and what is watched is told. Needs a kernel that asks
// LSM about paths (CONFIG_SECURITY_PATH).
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
#include "include/refuse.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// judge_move holds a folder that is to get another name against the rules about what
// lies below it: it would pass by them under that name.
static __always_inline void judge_move(struct work *work, struct who *w)
{
	u32 rule;

	if (!(w->slot->flags & SLOT_FILE_RULES))
		return;
	if (rule_of(work, FILES_SLOT + w->slot_number, &rule) & FILE_HOLDS)
		consider(work, w->slot, CONTROL_FILES, rule);
}

// address_of makes a number of a pointer: a function that the verifier looks at by
// itself takes no others.
static __always_inline u64 address_of(const void *p)
{
	const void *pointer = p;
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &pointer);
	return address;
}

// change judges what is about to happen to an entry of a folder, by addresses of a
// struct vfsmount and a struct dentry; other than 0: it is refused. Verified once,
// not in each hook.
__noinline int change(u64 mounted, u64 entry, u32 act)
{
	struct dentry *dentry = (struct dentry *)entry;
	struct task_struct *task = current_task();
	bool watched = may_be_watched(dentry);
	struct inode *inode;
	struct who w = {};
	struct work *work;
	u8 outcome;
	u32 rule;

	if (!watched && !rules_about_files())
		return 0;
	if (!find_me(&w, task))
		return 0;
	if (!w.inside && in_host_mounts(task))
		return 0;
	if (!watched && !(w.slot->flags & SLOT_FILE_RULES))
		return 0;
	work = task_room();
	if (!work)
		return 0;
	work->control = NO_CONTROL;
	work->mode = MODE_OFF;
	walk_entry(work, (struct vfsmount *)mounted, dentry, task);
	judge_file(work, &w, true);
	if (act == ACT_RENAME)
		judge_move(work, &w);
	outcome = outcome_of(work->mode);
	if (outcome == OUTCOME_NONE && rule_of(work, 0, &rule) != VERDICT_ALLOW)
		return 0; // nobody watches it
	inode = READ(dentry, d_inode);
	if (told(&w, KIND_OPEN, 4 | outcome, (u64)act << 32 | READ(dentry, d_name.hash), READ(dentry, d_parent, d_inode, i_ino)))
		emit_open(work, &w, task, inode, 1, act, outcome);
	return answer(outcome, work->mode);
}

static __always_inline int change_in(const struct path *folder, struct dentry *dentry, u32 act)
{
	return change(address_of(READ((struct path *)folder, mnt)), address_of(dentry), act) ? -EPERM : 0;
}

static __always_inline int change_of(const struct path *path, u32 act)
{
	return change_in(path, READ((struct path *)path, dentry), act);
}

SEC("lsm/path_unlink")
int BPF_PROG(on_unlink, const struct path *folder, struct dentry *dentry)
{
	return change_in(folder, dentry, ACT_REMOVE);
}

SEC("lsm/path_rmdir")
int BPF_PROG(on_rmdir, const struct path *folder, struct dentry *dentry)
{
	return change_in(folder, dentry, ACT_REMOVE);
}

SEC("lsm/path_mkdir")
int BPF_PROG(on_mkdir, const struct path *folder, struct dentry *dentry)
{
	return change_in(folder, dentry, ACT_CREATE);
}

SEC("lsm/path_mknod")
int BPF_PROG(on_mknod, const struct path *folder, struct dentry *dentry)
{
	return change_in(folder, dentry, ACT_CREATE);
}

SEC("lsm/path_symlink")
int BPF_PROG(on_symlink, const struct path *folder, struct dentry *dentry)
{
	return change_in(folder, dentry, ACT_LINK);
}

// A second name for a file would pass by the rules about its first: both count.
SEC("lsm/path_link")
int BPF_PROG(on_link, struct dentry *old, const struct path *folder, struct dentry *dentry)
{
	int refused = change_in(folder, old, ACT_LINK);

	return refused ? refused : change_in(folder, dentry, ACT_LINK);
}

SEC("lsm/path_rename")
int BPF_PROG(on_rename, const struct path *from, struct dentry *old, const struct path *to, struct dentry *dentry)
{
	int refused = change_in(from, old, ACT_RENAME);

	return refused ? refused : change_in(to, dentry, ACT_RENAME);
}

SEC("lsm/path_truncate")
int BPF_PROG(on_truncate, const struct path *path)
{
	return change_of(path, ACT_TRUNCATE);
}

SEC("lsm/path_chmod")
int BPF_PROG(on_chmod, const struct path *path)
{
	return change_of(path, ACT_MODE);
}

SEC("lsm/path_chown")
int BPF_PROG(on_chown, const struct path *path)
{
	return change_of(path, ACT_OWNER);
}
