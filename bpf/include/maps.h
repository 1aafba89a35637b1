// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// The maps that all objects share: pinned by name, so that each object that is
// loaded later takes up the same ones.
#ifndef BREAKWATER_MAPS_H
#define BREAKWATER_MAPS_H

#define MAP(NAME, TYPE, KEY, VALUE, ENTRIES, FLAGS)      \
	struct {                                         \
		__uint(type, TYPE);                      \
		__type(key, KEY);                        \
		__type(value, VALUE);                    \
		__uint(max_entries, ENTRIES);            \
		__uint(map_flags, FLAGS);                \
		__uint(pinning, LIBBPF_PIN_BY_NAME);     \
	} NAME SEC(".maps")

MAP(settings, BPF_MAP_TYPE_ARRAY, u32, struct config, 1, 0);
MAP(slots, BPF_MAP_TYPE_ARRAY, u32, struct slot, 1024, 0);
MAP(containers, BPF_MAP_TYPE_HASH, u64, struct container, 8192, 0);
MAP(assigned, BPF_MAP_TYPE_HASH, struct id_key, u32, 8192, 0);
MAP(procs, BPF_MAP_TYPE_HASH, u32, struct proc, 65536, 0);
MAP(paths, BPF_MAP_TYPE_LPM_TRIE, struct path_key, struct path_rule, 65536, BPF_F_NO_PREALLOC);
MAP(leaves, BPF_MAP_TYPE_HASH, struct leaf_key, u32, 4096, 0);
MAP(networks, BPF_MAP_TYPE_LPM_TRIE, struct net_key, struct net_rules, 65536, BPF_F_NO_PREALLOC);
MAP(engine_sockets, BPF_MAP_TYPE_HASH, struct file_key, u32, 64, 0);
MAP(init_programs, BPF_MAP_TYPE_HASH, struct file_key, u32, 64, 0);
MAP(seen, BPF_MAP_TYPE_LRU_HASH, struct seen_key, struct seen, 16384, 0);
MAP(familiar, BPF_MAP_TYPE_HASH, u64, struct repeats, 8192, 0);
MAP(strangers, BPF_MAP_TYPE_LRU_HASH, u32, struct stranger, 1024, 0);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, u64, struct flow, 8192, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct counter, KINDS * 2, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20); // it lies in the agent's memory twice
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

// Acts that were stopped or broke a rule have a ring of their own: telemetry
// cannot crowd them out.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} decisions SEC(".maps");

#endif
