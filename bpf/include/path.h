// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// A file's path, from its dentry up to the root of the mount namespace: what
// the kernel holds, not what a process says.
#ifndef BREAKWATER_PATH_H
#define BREAKWATER_PATH_H

#define WALK 512
#define COMPONENTS 64 // steps, mount crossings among them

// Room for one walk. It is too big for the stack.
struct work {
	struct path_key key; // the path, ready to be looked up
	u64 owner;
	u32 len;    // bytes of the path
	u32 dirlen; // of them up to the last slash, that included
	u32 flags;  // EXEC_PATH_*
	u32 rule;
	u32 facts; // enum exec_flag
	u32 pos;   // where the path begins in buf; here, not in registers, for the
	u32 leaf;  // verifier: otherwise each round looks different to it
	u8 control;
	u8 mode;
	u8 pad[6];
	char buf[WALK + 256];
};

// step is one dentry's part of the way up.
struct step {
	struct dentry *up;
	u64 hash_len; // struct qstr: the name's hash, and its length above it
	const unsigned char *name;
};

#define FIELD(TYPE, NAME) bpf_core_field_offset(TYPE, NAME)

// read_step reads the three fields at once where they stand side by side, as
// in every kernel so far.
static __always_inline void read_step(struct step *s, struct dentry *d)
{
	if (FIELD(struct dentry, d_name) == FIELD(struct dentry, d_parent) + 8 &&
	    FIELD(struct qstr, len) == 4 && FIELD(struct qstr, name) == 8) {
		bpf_probe_read_kernel(s, sizeof(*s), (void *)d + FIELD(struct dentry, d_parent));
		return;
	}
	s->up = BPF_CORE_READ(d, d_parent);
	s->hash_len = (u64)BPF_CORE_READ(d, d_name.len) << 32;
	s->name = BPF_CORE_READ(d, d_name.name);
}

// walk_entry writes the path of an entry of a mounted file system; the entry may
// be one that is only to be made.
static __always_inline void walk_entry(struct work *w, struct vfsmount *mnt, struct dentry *dentry,
				       struct task_struct *task)
{
	struct mount *root = BPF_CORE_READ(task, nsproxy, mnt_ns, root);
	struct mount *m = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	struct dentry *top = BPF_CORE_READ(m, mnt.mnt_root);
	u32 total;

	w->flags = EXEC_PATH_TRUNCATED;
	w->len = w->dirlen = w->leaf = 0;
	w->pos = WALK - 1;
	for (int i = 0; i < COMPONENTS; i++) {
		struct step s = {};
		u32 len, pos;

		if (dentry == top) {
			struct mount *parent = BPF_CORE_READ(m, mnt_parent);

			if (parent == m) {
				w->flags = m == root ? 0 : EXEC_PATH_FOREIGN;
				break;
			}
			dentry = BPF_CORE_READ(m, mnt_mountpoint);
			m = parent;
			top = BPF_CORE_READ(m, mnt.mnt_root);
			continue;
		}
		read_step(&s, dentry);
		len = s.hash_len >> 32;
		pos = w->pos;
		if (s.up == dentry) {
			w->flags = EXEC_PATH_FOREIGN;
			// A file in memory is its own root, and has a name: memfd:…
			if (w->leaf || len < 2)
				break;
		}
		if (len > 255 || len + 2 > pos)
			break;
		pos -= len;
		bpf_probe_read_kernel(&w->buf[pos & (WALK - 1)], len & 255, s.name);
		if (s.up == dentry) {
			w->pos = pos;
			break;
		}
		pos--;
		w->buf[pos & (WALK - 1)] = '/';
		w->pos = pos;
		if (!w->leaf)
			w->leaf = len;
		dentry = s.up;
	}
	total = WALK - 1 - w->pos;
	if (total > PATH_LEN - 1) {
		w->flags |= EXEC_PATH_TRUNCATED;
		total = PATH_LEN - 1;
	}
	if (!total)
		w->buf[WALK - 1] = '/', total = 1;
	total &= 255;
	if (total > PATH_LEN - 1)
		return;
	bpf_probe_read_kernel(w->key.path, total, &w->buf[w->pos & (WALK - 1)]);
	w->key.path[total] = 0;
	w->len = total;
	w->dirlen = total - w->leaf;
}

static __always_inline void walk_path(struct work *w, struct path *p, struct task_struct *task)
{
	walk_entry(w, BPF_CORE_READ(p, mnt), BPF_CORE_READ(p, dentry), task);
}

// take_path reads a path that the kernel holds as text. Where it is not as
// walk_path would write it, with empty parts, or ones that begin with a dot,
// w->flags says so.
static __always_inline void take_path(struct work *w, const char *text)
{
	u32 slash = 0;
	u8 last = 0;
	long n;

	w->flags = EXEC_PATH_TRUNCATED;
	w->len = w->dirlen = 0;
	n = bpf_probe_read_kernel_str(w->key.path, sizeof(w->key.path), text);
	if (n <= 1 || n >= PATH_LEN || w->key.path[0] != '/')
		return;
	for (u32 i = 0; i < PATH_LEN - 1; i++) {
		u8 c = w->key.path[i];

		if (!c)
			break;
		if (last == '/' && (c == '/' || c == '.'))
			return;
		if (c == '/')
			slash = i;
		last = c;
	}
	w->flags = 0;
	w->len = n - 1;
	w->dirlen = slash + 1;
}

// rule_of finds the verdict of the longest rule of a slot that matches.
static __always_inline u8 rule_of(struct work *w, u32 slot, u32 *rule)
{
	struct path_rule *r;

	*rule = 0;
	if (w->flags)
		return VERDICT_NONE;
	w->key.slot = slot;
	w->key.prefixlen = (sizeof(u32) + w->len + 1) * 8;
	r = bpf_map_lookup_elem(&paths, &w->key);
	if (!r)
		return VERDICT_NONE;
	if (!r->len || r->len == w->dirlen) {
		*rule = r->one_rule;
		return r->one;
	}
	*rule = r->deep_rule;
	return r->deep;
}

#endif
