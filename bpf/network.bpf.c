//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// The network: who may be reached is decided on the kernel's copy of the
// address, and refused with EPERM. Attached once, at the root of the unified
// hierarchy: whoever is in no container passes first of all.
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "include/read.h"
#include <bpf/bpf_endian.h>
#include "include/wire.h"
#include "include/maps.h"
#include "include/who.h"
#include "include/emit.h"
#include "include/introduce.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct peer {
	u8 addr[16];
	u16 port;
	u16 family;
	u16 transport;
};

static __always_inline void peer_v4(struct peer *p, u32 ip)
{
	__builtin_memset(p->addr, 0, 10);
	p->addr[10] = p->addr[11] = 0xff;
	__builtin_memcpy(p->addr + 12, &ip, 4);
}

static __always_inline bool is_v4(const struct peer *p)
{
	const u32 *a = (const u32 *)p->addr;

	return a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff);
}

// Loopback, and the unspecified address that the kernel takes for it.
static __always_inline bool is_loopback(const struct peer *p)
{
	const u32 *a = (const u32 *)p->addr;

	if (is_v4(p))
		return p->addr[12] == 127 || a[3] == 0;
	return a[0] == 0 && a[1] == 0 && a[2] == 0 && (a[3] == 0 || a[3] == bpf_htonl(1));
}

// judge_peer finds the verdict; rule is the number of what decided, 0 the default.
static __always_inline bool peer_allowed(struct who *w, struct peer *p, u32 *rule)
{
	struct net_key key = {.prefixlen = (4 + 16) * 8, .slot = w->slot_number};
	struct net_rules *r;

	*rule = 0;
	if (!(w->slot->flags & (SLOT_NET_RULES | SLOT_NET_RESTRICT)))
		return true;
	__builtin_memcpy(key.addr, p->addr, 16);
	r = bpf_map_lookup_elem(&networks, &key);
	if (r) {
		for (u32 i = 0; i < PORTS; i++) {
			struct port_rule *pr = &r->ports[i];

			if (i >= r->count)
				break;
			if (p->port < pr->first || p->port > pr->last)
				continue;
			*rule = pr->rule;
			return pr->verdict == VERDICT_ALLOW;
		}
	}
	return !(w->slot->flags & SLOT_NET_RESTRICT);
}

static __always_inline void emit_net(struct who *w, struct peer *p, u8 kind, u8 outcome, u32 rule,
				     u64 repeats)
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
	e->head.repeats = repeats;
	if (outcome) {
		e->head.control = CONTROL_NETWORK;
		e->head.mode = w->slot->mode[CONTROL_NETWORK];
		e->head.outcome = outcome;
		e->head.rule = rule;
		if (outcome == OUTCOME_PREVENTED)
			e->head.mechanism = MECHANISM_CGROUP;
	}
	__builtin_memcpy(e->addr, p->addr, 16);
	e->port = p->port;
	e->family = p->family;
	e->transport = p->transport;
	e->pad = 0;
	e->ino = 0;
	e->path[0] = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline u8 outcome_of(struct who *w, bool allowed)
{
	u8 mode = w->slot->mode[CONTROL_NETWORK];

	if (allowed || mode == MODE_OFF)
		return OUTCOME_NONE;
	return mode == MODE_DETECT ? OUTCOME_DETECTED : OUTCOME_PREVENTED;
}

// asks_names: what goes there are questions of DNS (RFC 1035).
static __always_inline bool asks_names(struct peer *p)
{
	return p->port == 53 && p->transport == IPPROTO_UDP;
}

// Remembers who owns a connection, for its first bytes.
static __always_inline void follow(void *ctx, struct who *w, struct peer *p)
{
	struct task_struct *task = current_task(), *leader, *parent;
	struct flow f = {};
	u64 cookie = bpf_get_socket_cookie(ctx);

	if (!asks_names(p) && (p->transport != IPPROTO_TCP || !w->slot->mode[CONTROL_MINER]))
		return;
	leader = READ(task, group_leader);
	parent = READ(leader, real_parent);
	f.cgroup = w->cgroup;
	f.pid = READ(leader, pid);
	f.start = started(leader);
	f.ppid = READ(parent, tgid);
	f.parent_start = start_of(parent);
	f.uid = READ(task, cred, uid.val);
	f.gid = READ(task, cred, gid.val);
	f.slot = w->slot_number;
	f.port = p->port;
	f.family = p->family;
	f.udp = p->transport == IPPROTO_UDP;
	__builtin_memcpy(f.addr, p->addr, 16);
	bpf_probe_read_kernel_str(f.comm, sizeof(f.comm), &task->comm);
	__builtin_memcpy(f.id, w->container->id, ID_LEN);
	bpf_map_update_elem(&flows, &cookie, &f, BPF_ANY);
}

static __always_inline int judge_peer(void *ctx, struct who *w, struct peer *p, bool connects)
{
	struct seen_key key = {};
	u64 repeats;
	u32 rule;
	u8 outcome;

	outcome = is_loopback(p) ? OUTCOME_NONE : outcome_of(w, peer_allowed(w, p, &rule));
	if (outcome == OUTCOME_NONE)
		rule = 0;
	key.cgroup = w->cgroup;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.start = start_of(current_task());
	key.kind = KIND_CONNECT;
	key.port = p->port;
	key.detail = p->transport << 2 | outcome;
	__builtin_memcpy(key.addr, p->addr, 16);
	if (worth_telling(&key, outcome, &repeats))
		emit_net(w, p, KIND_CONNECT, outcome, rule, repeats);
	if (outcome == OUTCOME_PREVENTED)
		return 0;
	if (connects || asks_names(p))
		follow(ctx, w, p);
	return 1;
}

static __always_inline int on_v4(struct bpf_sock_addr *ctx, bool connects)
{
	struct peer p = {.family = AF_INET};
	struct who w = {};

	if (!find_me(&w, current_task()))
		return 1;
	peer_v4(&p, ctx->user_ip4);
	p.port = bpf_ntohs(ctx->user_port);
	p.transport = ctx->protocol;
	return judge_peer(ctx, &w, &p, connects);
}

static __always_inline int on_v6(struct bpf_sock_addr *ctx, bool connects)
{
	struct peer p = {.family = AF_INET6};
	struct who w = {};
	u32 *a = (u32 *)p.addr;

	if (!find_me(&w, current_task()))
		return 1;
	a[0] = ctx->user_ip6[0];
	a[1] = ctx->user_ip6[1];
	a[2] = ctx->user_ip6[2];
	a[3] = ctx->user_ip6[3];
	if (is_v4(&p))
		p.family = AF_INET;
	p.port = bpf_ntohs(ctx->user_port);
	p.transport = ctx->protocol;
	return judge_peer(ctx, &w, &p, connects);
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	return on_v4(ctx, true);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	return on_v6(ctx, true);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	return on_v4(ctx, false);
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	return on_v6(ctx, false);
}

// Raw sockets and protocols without a connect hook would pass the policy by.
SEC("cgroup/sock_create")
int on_sock_create(struct bpf_sock *ctx)
{
	struct peer p = {.family = ctx->family};
	struct seen_key key = {};
	struct who w = {};
	u64 repeats;
	u8 outcome;

	if (!find_me(&w, current_task()))
		return 1;
	if (ctx->type != SOCK_RAW && (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_UDP))
		return 1;
	outcome = outcome_of(&w, !(w.slot->flags & (SLOT_NET_RESTRICT | SLOT_NET_RULES)));
	p.transport = ctx->type == SOCK_RAW ? 255 : ctx->protocol;
	p.port = ctx->protocol;
	key.cgroup = w.cgroup;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.start = start_of(current_task());
	key.kind = KIND_SOCKET;
	key.port = ctx->protocol;
	key.detail = outcome;
	if (worth_telling(&key, outcome, &repeats))
		emit_net(&w, &p, KIND_SOCKET, outcome, 0, repeats);
	return outcome != OUTCOME_PREVENTED;
}

// eq is 1 for equal numbers, else 0, without a branch: the verifier would
// follow every combination of branches through all rounds of the loop below.
static __always_inline u64 eq(u64 a, u64 b)
{
	u64 x = a ^ b, n = -x;

	barrier_var(n);
	return ((x | n) >> 63) ^ 1;
}

#define WORD8(A, B, C, D, E, F, G, H)                                                     \
	((u64)(A) << 56 | (u64)(B) << 48 | (u64)(C) << 40 | (u64)(D) << 32 | (u64)(E) << 24 | \
	 (u64)(F) << 16 | (u64)(G) << 8 | (u64)(H))
#define WORD7(B, C, D, E, F, G, H) WORD8(0, B, C, D, E, F, G, H)
#define WORD6(C, D, E, F, G, H) WORD8(0, 0, C, D, E, F, G, H)
#define LAST(W, N) ((W) & (~0ULL >> (64 - (N) * 8)))

// Stratum, the miners' protocol: a JSON request whose method is mining.*
// (Bitcoin's dialect), eth_submitLogin (Ethereum's), or a login that brings a
// miner's fields (Monero's). Behind the data there are zeros.
static __always_inline bool is_stratum(const char *data)
{
	// The last eight bytes; whether "method" was read and its value not
	// begun; bytes of the value so far.
	u64 last = 0, armed = 0, age = 0, stratum = 0, login = 0, miner = 0;

	for (u32 i = 0; i < HEAD_LEN; i++) {
		u64 c = (unsigned char)data[i], first;

		last = last << 8 | c;
		first = armed & ~(eq(c, ' ') | eq(c, ':') | eq(c, '\t'));
		age = first | (age + (1 - eq(age, 0))) * (1 - first);
		stratum |= eq(age, 8) & (eq(last, WORD8('"', 'm', 'i', 'n', 'i', 'n', 'g', '.')) |
					 eq(last, WORD8('"', 'e', 't', 'h', '_', 's', 'u', 'b')));
		login |= eq(age, 7) & eq(LAST(last, 7), WORD7('"', 'l', 'o', 'g', 'i', 'n', '"'));
		miner |= eq(LAST(last, 7), WORD7('"', 'a', 'g', 'e', 'n', 't', '"')) |
			 eq(LAST(last, 7), WORD7('"', 'r', 'i', 'g', 'i', 'd', '"')) |
			 eq(LAST(last, 6), WORD6('"', 'p', 'a', 's', 's', '"')) |
			 eq(LAST(last, 6), WORD6('"', 'a', 'l', 'g', 'o', '"'));
		armed = (armed & ~first) | eq(last, WORD8('"', 'm', 'e', 't', 'h', 'o', 'd', '"'));
	}
	return stratum | (login & miner);
}

// payload_at finds where TCP's or UDP's data begins in a packet; 0: there is none.
static __always_inline u32 payload_at(struct __sk_buff *skb)
{
	u8 first = 0, proto = 0, off = 0;
	u32 at;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		bpf_skb_load_bytes(skb, 9, &proto, 1);
		at = (first & 15) * 4;
	} else {
		bpf_skb_load_bytes(skb, 6, &proto, 1);
		at = 40;
	}
	if (proto == IPPROTO_UDP) {
		at += 8;
		return at < skb->len ? at : 0;
	}
	if (proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, at + 12, &off, 1))
		return 0;
	at += (off >> 4) * 4;
	return at < skb->len ? at : 0;
}

#define FLOW_PACKETS 4
#define FLOW_REFUSED 0x80

struct bytes {
	char data[HEAD_LEN];
};

static __always_inline void fill_flow(struct flow_event *e, struct flow *f, struct bytes *b, u32 len, u8 kind)
{
	__builtin_memset(&e->head, 0, sizeof(e->head));
	e->head.time = bpf_ktime_get_boot_ns();
	e->head.cgroup = f->cgroup;
	e->head.slot = f->slot;
	e->head.kind = kind;
	e->head.control = NO_CONTROL;
	e->head.pid = f->pid;
	e->head.start = f->start;
	e->head.ppid = f->ppid;
	e->head.parent_start = f->parent_start;
	e->head.uid = f->uid;
	e->head.gid = f->gid;
	__builtin_memcpy(e->head.comm, f->comm, 16);
	__builtin_memcpy(e->head.id, f->id, ID_LEN);
	__builtin_memcpy(e->addr, f->addr, 16);
	e->port = f->port;
	e->family = f->family;
	e->len = len;
	__builtin_memcpy(e->data, b->data, HEAD_LEN);
}

// tell_question sends a question of DNS, once for each process and name: the
// number of the message, its first two bytes, is another each time.
static __always_inline int tell_question(struct flow *f, struct bytes *b, u32 len)
{
	struct seen_key key = {.cgroup = f->cgroup, .start = f->start, .pid = f->pid, .kind = KIND_DNS};
	struct flow_event *e;
	u64 hash[2] = {0xcbf29ce484222325ULL, len}, repeats; // FNV-1a over words

	b->data[0] = b->data[1] = 0;
	for (u32 i = 0; i < HEAD_LEN / 8; i++)
		hash[0] = (hash[0] ^ *(u64 *)(b->data + i * 8)) * 0x100000001b3ULL;
	__builtin_memcpy(key.addr, hash, 16);
	if (!worth_telling(&key, OUTCOME_NONE, &repeats))
		return 1;
	e = reserve(struct flow_event, KIND_DNS, 0);
	if (!e) {
		count_dropped(KIND_DNS, 0);
		return 1;
	}
	fill_flow(e, f, b, len, KIND_DNS);
	bpf_ringbuf_submit(e, 0);
	return 1;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct flow *f = bpf_map_lookup_elem(&flows, &cookie);
	struct bytes b = {};
	struct flow_event *e;
	struct slot *slot;
	u32 at, len, number;
	u8 outcome = OUTCOME_NONE, mode;

	if (!f)
		return 1; // no container's, or its beginning is known
	at = payload_at(skb);
	if (!at)
		return 1;
	len = skb->len - at;
	if (len > HEAD_LEN)
		len = HEAD_LEN;
	// Kernels before 6.8 learn nothing from a test for 0: bound the length
	// less one, so that the length is at least one.
	len--;
	barrier_var(len);
	if (len >= HEAD_LEN)
		return 1;
	len++;
	if (bpf_skb_load_bytes(skb, at, b.data, len))
		return 1;
	if (f->port == 53 && f->family && f->udp)
		return tell_question(f, &b, len);
	if (b.data[0] != '{') {
		bpf_map_delete_elem(&flows, &cookie);
		return 1;
	}
	number = f->slot;
	slot = bpf_map_lookup_elem(&slots, &number);
	mode = slot ? slot->mode[CONTROL_MINER] : MODE_OFF;
	if (mode && is_stratum(b.data))
		outcome = mode >= MODE_BLOCK ? OUTCOME_PREVENTED : OUTCOME_DETECTED;
	// A refused flow stays refused: TCP sends the same bytes again.
	if (f->packets & FLOW_REFUSED)
		return outcome != OUTCOME_PREVENTED;
	e = reserve(struct flow_event, KIND_FLOW, outcome);
	if (e) {
		fill_flow(e, f, &b, len, KIND_FLOW);
		e->head.control = outcome ? CONTROL_MINER : NO_CONTROL;
		e->head.mode = mode;
		e->head.outcome = outcome;
		e->head.mechanism = outcome == OUTCOME_PREVENTED ? MECHANISM_CGROUP : 0;
		bpf_ringbuf_submit(e, 0);
	} else {
		count_dropped(KIND_FLOW, outcome);
	}
	if (outcome == OUTCOME_PREVENTED) {
		f->packets |= FLOW_REFUSED;
		return 0;
	}
	f->packets++;
	if (outcome || f->packets >= FLOW_PACKETS)
		bpf_map_delete_elem(&flows, &cookie);
	return 1;
}

// Whoever listens waits for somebody: told once for each port.
SEC("raw_tp/inet_sock_set_state")
int on_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct seen_key key = {};
	struct peer p = {};
	struct who w = {};
	u64 repeats;

	if ((u32)ctx->args[2] != TCP_LISTEN || !find_me(&w, current_task()))
		return 0;
	if (!w.inside && in_host_mounts(current_task()))
		return 0;
	p.family = READ(sk, __sk_common.skc_family);
	p.port = READ(sk, __sk_common.skc_num);
	p.transport = IPPROTO_TCP;
	key.cgroup = w.cgroup;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.start = start_of(current_task());
	key.kind = KIND_LISTEN;
	key.port = p.port;
	if (worth_telling(&key, OUTCOME_NONE, &repeats))
		emit_net(&w, &p, KIND_LISTEN, OUTCOME_NONE, 0, 0);
	return 0;
}

// The host's disks are no container's: whoever reads or writes one reads and
// writes every file of the host.
SEC("cgroup/dev")
int on_device(struct bpf_cgroup_dev_ctx *ctx)
{
	struct privilege_event *e;
	struct who w = {};
	u8 outcome, mode;

	// A node alone harms nobody, and engines inside of containers make one.
	if ((ctx->access_type & 0xffff) != BPF_DEVCG_DEV_BLOCK || ctx->access_type >> 16 == BPF_DEVCG_ACC_MKNOD)
		return 1;
	if (!find_me(&w, current_task()))
		return 1;
	if (!w.inside && in_host_mounts(current_task()))
		return 1;
	mode = w.slot->mode[CONTROL_DEVICE];
	outcome = mode >= MODE_BLOCK ? OUTCOME_PREVENTED : mode ? OUTCOME_DETECTED : OUTCOME_NONE;
	introduce(&w, outcome);
	e = reserve(struct privilege_event, KIND_PRIVILEGE, outcome);
	if (!e) {
		count_dropped(KIND_PRIVILEGE, outcome);
		return outcome != OUTCOME_PREVENTED;
	}
	fill_head(&e->head, &w, KIND_PRIVILEGE);
	fill_task(&e->head, current_task());
	e->head.control = CONTROL_DEVICE;
	e->head.mode = mode;
	e->head.outcome = outcome;
	if (outcome == OUTCOME_PREVENTED)
		e->head.mechanism = MECHANISM_CGROUP;
	e->capability = NO_CAPABILITY;
	e->call = ctx->access_type >> 16;
	e->granted = outcome != OUTCOME_PREVENTED;
	e->compat = 0;
	e->args[0] = ctx->major;
	e->args[1] = ctx->minor;
	e->args[2] = 0;
	bpf_ringbuf_submit(e, 0);
	return outcome != OUTCOME_PREVENTED;
}
