// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Events on their way to user space, every one of them counted.
#ifndef BREAKWATER_EMIT_H
#define BREAKWATER_EMIT_H

#define SECOND 1000000000ULL

static __always_inline struct counter *counter_of(u8 kind, u8 outcome)
{
	u32 i = (kind & 15) + (outcome ? KINDS : 0);

	return bpf_map_lookup_elem(&counters, &i);
}

static __always_inline void count_emitted(u8 kind, u8 outcome)
{
	struct counter *c = counter_of(kind, outcome);

	if (c)
		c->emitted++;
}

static __always_inline void count_dropped(u8 kind, u8 outcome)
{
	struct counter *c = counter_of(kind, outcome);

	if (c)
		c->dropped++;
}

static __always_inline void fill_task(struct head *h, struct task_struct *task)
{
	struct task_struct *leader = READ(task, group_leader);
	struct task_struct *parent = READ(leader, real_parent);
	struct cred *cred = READ(task, cred);

	h->pid = READ(leader, pid);
	h->start = started(leader);
	h->ppid = READ(parent, tgid);
	h->parent_start = start_of(parent);
	h->uid = READ(cred, uid.val);
	h->gid = READ(cred, gid.val);
	bpf_probe_read_kernel_str(h->comm, sizeof(h->comm), &task->comm);
}

static __always_inline void fill_head(struct head *h, struct who *w, u8 kind)
{
	__builtin_memset(h, 0, sizeof(*h));
	h->time = bpf_ktime_get_boot_ns();
	h->cgroup = w->cgroup;
	h->slot = w->slot_number;
	h->kind = kind;
	h->control = NO_CONTROL;
	__builtin_memcpy(h->id, w->container->id, ID_LEN);
}

// reserve takes room for an event: in the decisions' ring when something was
// decided about it, else in the telemetry's. Whoever gets none calls
// count_dropped. Test the result exactly once: kernels before 6.3 follow the
// impossible branch of a second test and then miss the release.
#define reserve(TYPE, KIND, OUTCOME)                                                       \
	({                                                                                 \
		count_emitted(KIND, OUTCOME);                                              \
		(TYPE *)((OUTCOME) ? bpf_ringbuf_reserve(&decisions, sizeof(TYPE), 0)       \
				   : bpf_ringbuf_reserve(&events, sizeof(TYPE), 0));        \
	})

// submit_quietly hands over what comes in storms without waking the reader,
// which costs more than the rest of the program: the reader looks by itself
// every now and then, and is woken when much has gathered.
#define MUCH (1 << 20)

static __always_inline u64 quietly(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > MUCH ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void submit_quietly(void *e, u8 outcome)
{
	bpf_ringbuf_submit(e, outcome ? 0 : quietly());
}

// A container whose peers are refused in a storm is told of so often a second,
// and counted beyond that, so that the ring has room for what else is decided.
#define TOLD_A_SECOND 500

static __always_inline bool drowns_others(struct seen_key *act, u64 now)
{
	struct seen_key key = {.cgroup = act->cgroup}; // no act's: it has no kind
	struct seen *s = bpf_map_lookup_elem(&seen, &key);
	struct seen first = {.count = 1, .reported = now};

	if (act->kind != KIND_CONNECT && act->kind != KIND_SOCKET)
		return false;
	if (!s) {
		bpf_map_update_elem(&seen, &key, &first, BPF_ANY);
		return false;
	}
	if (now - s->reported > SECOND) {
		s->reported = now;
		s->count = 0;
	}
	return __sync_fetch_and_add(&s->count, 1) >= TOLD_A_SECOND;
}

static __always_inline void count_repeated(struct seen_key *key, u8 outcome)
{
	struct counter *c = counter_of(key->kind, outcome);

	if (c)
		c->repeated++;
}

// worth_telling remembers behaviours: true the first time, and once a second
// for acts that were judged. repeats is how often it went untold since.
static __always_inline bool worth_telling(struct seen_key *key, u8 outcome, u64 *repeats)
{
	struct seen *s = bpf_map_lookup_elem(&seen, key);
	u64 now = bpf_ktime_get_boot_ns();
	struct seen first = {.count = 0, .reported = now};

	*repeats = 0;
	if (!s) {
		if (outcome && drowns_others(key, now)) {
			count_repeated(key, outcome);
			return false;
		}
		bpf_map_update_elem(&seen, key, &first, BPF_ANY);
		return true;
	}
	if (outcome && now - s->reported > SECOND && !drowns_others(key, now)) {
		*repeats = s->count;
		s->count = 0;
		s->reported = now;
		return true;
	}
	__sync_fetch_and_add(&s->count, 1);
	count_repeated(key, outcome);
	return false;
}

#endif
