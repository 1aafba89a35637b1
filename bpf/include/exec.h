// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// The decision about a program that is about to run: one function for both
// tiers.
#ifndef BREAKWATER_EXEC_H
#define BREAKWATER_EXEC_H

static __always_inline s64 inode_ctime(struct inode *inode)
{
	struct inode___6_6 *six = (void *)inode;
	struct inode___5_8 *five = (void *)inode;
	s64 sec, nsec;

	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		sec = READ(inode, i_ctime_sec);
		// The top bit says that somebody read the time (6.13).
		nsec = READ(inode, i_ctime_nsec) & 0x7fffffff;
	} else if (bpf_core_field_exists(six->__i_ctime)) {
		sec = READ(six, __i_ctime.tv_sec);
		nsec = READ(six, __i_ctime.tv_nsec);
	} else {
		sec = READ(five, i_ctime.tv_sec);
		nsec = READ(five, i_ctime.tv_nsec);
	}
	return sec * (s64)SECOND + nsec;
}

// in_upper: the file is in the writable layer of an overlay. In struct
// ovl_inode (fs/overlayfs/ovl_entry.h, 4.13 to 6.18) the pointer to the upper
// dentry follows the embedded inode; overlay may be a module without BTF, so
// the offset is the size of struct inode.
static __always_inline bool in_upper(struct inode *inode)
{
	void *upper = 0;

	if (READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return false;
	bpf_probe_read_kernel(&upper, sizeof(upper),
			      (void *)inode + bpf_core_type_size(struct inode));
	return upper != 0;
}

static __always_inline bool is_network_socket(struct file *file)
{
	struct inode *inode = READ(file, f_inode);
	struct socket *s;
	u16 family;

	if (!inode || (READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return false;
	s = READ(file, private_data);
	family = READ(s, sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6;
}

static __always_inline struct file *file_of(struct task_struct *task, u64 fd)
{
	struct fdtable *fdt = READ(task, files, fdt);
	struct file **table, *file = 0;

	if (fd >= READ(fdt, max_fds))
		return 0;
	table = READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

static __always_inline u32 socket_facts(struct task_struct *task)
{
	struct fdtable *fdt = READ(task, files, fdt);
	struct file *std[2] = {};
	u32 facts = 0;

	// A table has room for BITS_PER_LONG files at least (fs/file.c).
	bpf_probe_read_kernel(std, sizeof(std), READ(fdt, fd));
	if (std[0] && is_network_socket(std[0]))
		facts |= EXEC_STDIN_SOCKET;
	if (std[1] && is_network_socket(std[1]))
		facts |= EXEC_STDOUT_SOCKET;
	return facts;
}

static __always_inline void consider(struct work *w, struct slot *s, u8 control, u32 rule)
{
	u8 mode = s->mode[control];

	if (mode <= w->mode)
		return;
	w->mode = mode;
	w->control = control;
	w->rule = rule;
}

// novelty says what shows that a file was not in the image.
static __always_inline u32 novelty(struct inode *inode, struct container *c)
{
	u32 facts = 0;

	if (READ(inode, i_nlink) == 0)
		facts |= EXEC_FILELESS;
	if (in_upper(inode))
		facts |= EXEC_UPPER;
	if (inode_ctime(inode) >= c->started_real)
		facts |= EXEC_MODIFIED;
	return facts;
}

// is_init: the engine's own init, which it mounts into containers from the
// host (docker run --init). It starts programs, each judged by itself.
static __always_inline bool is_init(struct inode *inode)
{
	struct file_key key = {
		.ino = READ(inode, i_ino),
		.dev = READ(inode, i_sb, s_dev),
	};

	return bpf_map_lookup_elem(&init_programs, &key) != 0;
}

// is_loader: the dynamic loader, by its name in the kernel: ld-linux-x86-64.so.2,
// ld-musl-…, ld.so, ld64.so.2.
static __always_inline bool is_loader(struct dentry *d)
{
	char name[8] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), READ(d, d_name.name));
	if (name[0] != 'l' || name[1] != 'd')
		return false;
	return name[2] == '-' || name[2] == '.' || (name[2] == '6' && name[3] == '4');
}

// told_to_run: the arguments name a program. The new process has not run yet,
// so that nobody else writes its memory. --list, --verify, --help and --version
// run nothing (glibc, elf/rtld.c).
static __always_inline bool told_to_run(struct work *w, struct task_struct *task)
{
	unsigned long from = READ(task, mm, arg_start);
	unsigned long to = READ(task, mm, arg_end);
	char word[5] = {};
	long n = bpf_probe_read_user_str(w->buf, 256, (void *)from); // only its length counts

	if (n <= 0 || n == 256)
		return true;
	if (from + n >= to)
		return false; // it only says how to use it
	if (bpf_probe_read_user(word, sizeof(word), (void *)(from + n)))
		return true;
	if (word[0] != '-' || word[1] != '-')
		return true;
	switch (word[2] << 16 | word[3] << 8 | word[4]) {
	case 'l' << 16 | 'i' << 8 | 's':
	case 'v' << 16 | 'e' << 8 | 'r':
	case 'h' << 16 | 'e' << 8 | 'l':
		return false;
	}
	return true;
}

// hides_programs: the loader runs whatever it is given past every exec, and no
// program sees what it maps. Who needs it so names it in the policy's allow list.
static __always_inline bool hides_programs(struct work *w, struct who *who, struct task_struct *task,
					   struct file *file)
{
	struct config *c = configuration();

	return who->slot->mode[CONTROL_DRIFT] && c && c->flags & CONFIG_LOADER &&
	       is_loader(READ(file, f_path.dentry)) && told_to_run(w, task);
}

// judge_exec decides: w->mode says what to do, w->control and w->rule why.
static __always_inline void judge_exec(struct work *w, struct who *who, struct task_struct *task,
				       struct linux_binprm *bprm)
{
	struct file *file = READ(bprm, file);
	struct inode *inode = READ(file, f_inode);
	u32 rule = 0;
	u8 verdict;

	w->mode = MODE_OFF;
	w->control = NO_CONTROL;
	w->rule = 0;
	w->facts = socket_facts(task);
	walk_path(w, &file->f_path, task);
	w->facts |= w->flags;
	w->facts |= novelty(inode, who->container);
	if (READ(bprm, interp) != READ(bprm, filename))
		w->facts |= EXEC_SCRIPT;
	if (hides_programs(w, who, task, file) && rule_of(w, who->slot_number, &rule) != VERDICT_ALLOW)
		w->facts |= EXEC_LOADER;

	if ((w->facts & (EXEC_STDIN_SOCKET | EXEC_STDOUT_SOCKET)) ==
	    (EXEC_STDIN_SOCKET | EXEC_STDOUT_SOCKET))
		consider(w, who->slot, CONTROL_REVERSE_SHELL, 0);
	if (w->facts & EXEC_FILELESS)
		consider(w, who->slot, CONTROL_FILELESS, 0);
	if (w->facts & (EXEC_UPPER | EXEC_MODIFIED | EXEC_LOADER))
		consider(w, who->slot, CONTROL_DRIFT, 0);
	if (!(who->slot->flags & SLOT_EXEC_RULES))
		return;
	verdict = rule_of(w, who->slot_number, &rule);
	// A path that could not be read to its root matches no rule: it is
	// refused wherever rules exist, for it could be a denied one.
	if (verdict == VERDICT_DENY || w->flags ||
	    (verdict == VERDICT_NONE && (who->slot->flags & SLOT_EXEC_RESTRICT) && !is_init(inode)))
		consider(w, who->slot, CONTROL_EXEC, rule);
}

static __always_inline void fill_exec(struct exec_event *e, struct work *w, struct who *who,
				      struct task_struct *task, struct linux_binprm *bprm, u8 outcome,
				      u8 mechanism)
{
	struct inode *inode = READ(bprm, file, f_inode);
	unsigned long from, to;
	struct cred *cred;

	fill_head(&e->head, who, KIND_EXEC);
	fill_task(&e->head, task);
	e->head.control = w->control;
	e->head.rule = w->rule;
	e->head.mode = w->mode;
	e->head.outcome = outcome;
	e->head.mechanism = mechanism;
	e->ino = READ(inode, i_ino);
	e->dev = READ(inode, i_sb, s_dev);
	e->flags = w->facts;
	cred = READ(task, cred);
	e->euid = READ(cred, euid.val);
	e->pad = 0;
	e->act = 0;
	e->caps = 0;
	bpf_probe_read_kernel(&e->caps, sizeof(e->caps), (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	if (READ(task, signal, tty))
		e->flags |= EXEC_TERMINAL;
	if (READ(bprm, per_clear)) // cleared for whoever is not what it was
		e->flags |= EXEC_GAINED;
	e->args_len = 0;
	e->path[0] = 0;
	bpf_probe_read_kernel_str(e->path, sizeof(e->path), w->key.path);
	e->script[0] = 0;
	if (w->facts & EXEC_SCRIPT)
		bpf_probe_read_kernel_str(e->script, sizeof(e->script), READ(bprm, filename));
	if (mechanism != MECHANISM_LSM) { // there the old program's arguments would be read
		from = READ(task, mm, arg_start);
		to = READ(task, mm, arg_end);
		if (to > from) {
			u64 n = to - from;

			if (n > ARGS_LEN)
				n = ARGS_LEN;
			if (!bpf_probe_read_user(e->args, n, (void *)from))
				e->args_len = n;
		}
	}
}

static __always_inline void emit_exec(struct work *w, struct who *who, struct task_struct *task,
				      struct linux_binprm *bprm, u8 outcome, u8 mechanism)
{
	struct exec_event *e = reserve(struct exec_event, KIND_EXEC, outcome);

	if (!e) {
		count_dropped(KIND_EXEC, outcome);
		return;
	}
	fill_exec(e, w, who, task, bprm, outcome, mechanism);
	submit_quietly(e, outcome);
}

#endif
