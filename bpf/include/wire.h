// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// What goes through maps and rings: the layouts that the Go side shares. No
// implicit padding anywhere; a Go test compares every structure with BTF.
#ifndef BREAKWATER_WIRE_H
#define BREAKWATER_WIRE_H

#define ID_LEN 64	// a container id: 64 hexadecimal digits
#define PATH_LEN 252	// LPM keys carry at most 256 bytes, 4 of them are the slot
#define ARGS_LEN 384
#define HEAD_LEN 160
#define PORTS 32	// port ranges of one network prefix

enum kind {
	KIND_FORK = 1,
	KIND_EXEC,
	KIND_EXIT,
	KIND_OPEN,
	KIND_CONNECT,
	KIND_FLOW,
	KIND_SOCKET,
	KIND_CONTAINER,
	KIND_PRIVILEGE,
	KIND_LISTEN,
	KIND_DNS,
	KINDS = 16,
};

// What a policy wants about a control, and what a program did about an act.
enum mode {
	MODE_OFF,
	MODE_DETECT,
	MODE_BLOCK,
	MODE_KILL,
};
enum outcome {
	OUTCOME_NONE,
	OUTCOME_DETECTED,
	OUTCOME_PREVENTED,
	OUTCOME_KILLED,
};

// The controls with a mode of their own in a slot; also the index into it.
enum control {
	CONTROL_EXEC,
	CONTROL_DRIFT,
	CONTROL_FILELESS,
	CONTROL_NETWORK,
	CONTROL_REVERSE_SHELL,	// always on
	CONTROL_RELEASE_AGENT,	// always on
	CONTROL_CORE_PATTERN,	// always on
	CONTROL_ENGINE_SOCKET,	// always on
	CONTROL_MINER,
	CONTROL_HELPER,		// always on
	CONTROL_MODULE,		// always on
	CONTROL_BPF,		// always on
	CONTROL_HANDLE,		// always on
	CONTROL_DEVICE,		// always on
	CONTROL_FILES,
	CONTROL_FILES_AUDITED,	// policies in audit mode beside enforcing ones
	CONTROL_FORK_BOMB,	// always on
	CONTROLS = 32,
};
#define NO_CONTROL 0xff

enum slot_flag {
	SLOT_EXEC_RESTRICT = 1, // only allowed programs
	SLOT_EXEC_RULES = 2,	// there are path rules
	SLOT_NET_RESTRICT = 4,	// only allowed peers
	SLOT_NET_RULES = 8,
	SLOT_FILE_RULES = 16,	// some files are denied, or only to be read
};

// One compiled policy. Slot 0 holds only the always-on pack.
struct slot {
	u64 generation;
	u32 flags;
	u32 used;
	u8 mode[CONTROLS];
	u8 content[32]; // SHA-256 of the policy that it was compiled from
};

enum config_flag {
	CONFIG_LOADER = 1, // no program sees what the dynamic loader maps
	CONFIG_FILES = 2,  // some slot has rules about files, or had
};

struct config {
	u64 host_mntns;	 // inode number of the first process's mount namespace
	s64 real_offset; // wall clock minus the programs' clock, ns
	u32 default_slot;
	s32 subsys;	   // index of the v1 controller that names containers; -1: unified
	u32 hierarchy; // its hierarchy id; 0: unified
	u32 flags;     // enum config_flag
	u64 under; // only containers below this cgroup; 0: all
	u64 secret[2]; // keys the digests of what programs do
};

enum container_flag {
	CONTAINER_ADOPTED = 1,
	CONTAINER_NESTED = 256, // the bits from here on count its nested groups
};

struct container {
	u64 root;	// cgroup id of the container itself; nested cgroups point there
	u64 started_boot;
	s64 started_real; // wall clock less one tick of the file systems' coarse clock
	u32 slot;
	u32 flags;
	u64 since; // births.h: a moment, and how many of its processes were born since
	s32 born;  // and live
	s32 deep;  // of them by many forks in a row
	u8 id[ID_LEN];
};

struct id_key {
	u8 id[ID_LEN];
};

// A process that belongs to a container or was born in one.
struct proc {
	u64 start;
	u64 cgroup;
	u64 act;    // the digest of how its program came to run; 0: not known
	u32 inside; // its lineage has executed a program inside the container
	u16 told;   // enum told
	u8 shares;  // its table of descriptors is, or was, another process's too
	u8 forks;   // in a row from one that executed its program to this one; at most 255
};

enum told {
	TOLD_NOW = 1,  // the agent knows what it runs, and its parent
	TOLD_ONCE = 2, // and will be told of its end
};

// Executions that nothing came of when they were told: the same ones again are
// counted and not told.
struct repeats {
	u64 count;
};

// A process that ended and was never told of.
struct stranger {
	u64 start;
	u64 act;
};

#define STORAGE_SLOT 1024 // past the last policy's
#define FILES_SLOT 2048	  // and from here on stand each slot's rules about files

struct path_key {
	u32 prefixlen;
	u32 slot; // 0: watched files; STORAGE_SLOT: where engines keep containers' files
	u8 path[PATH_LEN];
};

enum verdict {
	VERDICT_NONE,
	VERDICT_ALLOW,
	VERDICT_DENY,
};

// What holds for a file: bits.
enum file_verdict {
	FILE_DENIED = 1,
	FILE_READONLY = 2,
	FILE_DENIED_AUDITED = 4,
	FILE_READONLY_AUDITED = 8,
	FILE_HOLDS = 16, // a folder above what a rule speaks of
};

// The last parts of watched paths, cut to eight bytes: asked for before a whole
// path is put together.
struct leaf_key {
	u8 name[8];
};

enum leaf_kind {
	LEAF_FILE = 1,	 // a file's name
	LEAF_FOLDER = 2, // a folder's, whose files are watched
	LEAF_DEEP = 4,	 // under the empty name: something is watched at any depth
};

struct path_rule {
	u16 len; // bytes of a folder's prefix with its slash; 0: exactly this file
	u8 one;	 // verdict for the file or for direct children
	u8 deep; // verdict for everything further down
	u16 one_rule;
	u16 deep_rule;
};

struct net_key {
	u32 prefixlen;
	u32 slot;
	u8 addr[16]; // IPv4 as ::ffff:a.b.c.d
};

struct port_rule {
	u16 first;
	u16 last;
	u16 rule;
	u8 verdict;
	u8 pad;
};

struct net_rules {
	u32 count;
	u32 pad;
	struct port_rule ports[PORTS];
};

struct file_key {
	u64 ino;
	u64 dev; // as the kernel writes it: major << 20 | minor
};

struct seen_key {
	u64 cgroup;
	u64 start;
	u32 pid;
	u16 port;
	u8 kind;
	u8 detail;
	u8 addr[16];
};

struct seen {
	u64 count;
	u64 reported;
};

struct flow {
	u64 cgroup;
	u64 start;
	u64 parent_start;
	u32 pid;
	u32 ppid;
	u32 uid;
	u32 gid;
	u32 slot;
	u16 port;
	u8 family;
	u8 packets;
	u32 udp;
	u32 pad;
	u8 addr[16];
	u8 comm[16];
	u8 id[ID_LEN];
};

struct counter {
	u64 emitted;
	u64 dropped;
	u64 repeated; // not emitted: the same behaviour was reported before
};

struct head {
	u64 time; // ns since boot
	u64 cgroup;
	u64 start; // of the process, ns since boot
	u64 parent_start;
	u64 repeats; // times the same act happened since it was last reported
	u32 pid;
	u32 ppid;
	u32 uid;
	u32 gid;
	u32 slot;
	u16 rule;
	u8 kind;
	u8 control;
	u8 mode;
	u8 outcome;
	u8 mechanism; // enum mechanism
	u8 shared;    // a process that lives on has the descriptor too
	u8 comm[16];
	u8 id[ID_LEN];
	u32 pad2;
};

enum mechanism {
	MECHANISM_NONE,
	MECHANISM_EXEC_KILL,
	MECHANISM_LSM,
	MECHANISM_CGROUP,
	MECHANISM_SYSCALL_KILL,
};

enum exec_flag {
	EXEC_UPPER = 1,
	EXEC_MODIFIED = 2,
	EXEC_FILELESS = 4,
	EXEC_STDIN_SOCKET = 8,
	EXEC_STDOUT_SOCKET = 16,
	EXEC_SCRIPT = 32,
	EXEC_PATH_TRUNCATED = 64, // longer than PATH_LEN, or too deep
	EXEC_PATH_FOREIGN = 128,  // not below the root of the process's mount namespace
	EXEC_TERMINAL = 512,	  // the process has a controlling terminal
	EXEC_GAINED = 1024,	  // it got another user's rights: set-user-ID or file capabilities
	EXEC_LOADER = 256,	  // the dynamic loader, told to run a program
};

struct exec_event {
	struct head head;
	u64 ino;
	u64 dev;
	u32 flags;
	u32 args_len;
	u64 caps; // effective ones
	u64 act;  // digest of all this, of the parent's and of the container; 0: not made
	u32 euid;
	u32 pad;
	u8 path[256];
	u8 script[256];
	u8 args[ARGS_LEN];
};

// A process that was not told of when it began.
struct fork_event {
	struct head head;
	u64 act; // of the execution that made it what it runs
};

struct exit_event {
	struct head head;
	u32 code;
	u32 pad;
};

// What was done to a file.
enum act {
	ACT_OPEN,
	ACT_CREATE,
	ACT_REMOVE,
	ACT_RENAME,
	ACT_LINK,
	ACT_TRUNCATE,
	ACT_MODE,
	ACT_OWNER,
};

struct open_event {
	struct head head;
	u64 ino;
	u64 dev;
	u64 magic;
	u32 write;
	u32 flags;
	u32 act; // enum act
	u32 pad;
	u8 path[256];
};

#define NO_CAPABILITY 0xff // a block device, numbers in args; call says what for: 1 mknod, 2 read, 4 write

// A right was asked for. call is the number of the system call that needed it.
struct privilege_event {
	struct head head;
	u64 args[3]; // the call's first ones
	u32 capability;
	u32 call;
	u32 granted;
	u32 compat; // the call is of the 32-bit table
};

struct net_event {
	struct head head;
	u8 addr[16];
	u16 port;
	u16 transport; // IPPROTO_*, 255 raw
	u16 family;
	u16 pad;
	u64 ino; // unix sockets
	u8 path[112];
};

struct flow_event {
	struct head head;
	u8 addr[16];
	u16 port;
	u16 family;
	u32 len;
	u8 data[HEAD_LEN];
};

struct container_event {
	struct head head;
	s64 started_real;
	u32 gone;
	u32 pad;
};

#endif
