// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// The part of the kernel's types that the programs read. Every kernel structure
// carries preserve_access_index: only the names count, offsets are relocated
// at load from the running kernel's BTF, so the fields here may stand in any
// order and leave out what nobody reads. Structures of the user interface
// (bpf_sock_addr, …) are laid out as linux/bpf.h fixes them.
#ifndef BREAKWATER_KERNEL_H
#define BREAKWATER_KERNEL_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

#define EPERM 1
#define SIGKILL 9
#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17
#define AF_UNIX 1
#define AF_NETLINK 16
#define AF_ALG 38
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define FMODE_WRITE 2
#define O_TRUNC 01000
#define PROT_EXEC 4
#define READ_IMPLIES_EXEC 0x0400000
#define PF_KTHREAD 0x00200000 // include/linux/sched.h
#define CAP_NET_RAW 13
#define CAP_DAC_READ_SEARCH 2
#define CAP_SYS_MODULE 16
#define CAP_SYS_ADMIN 21
#define CAP_SYS_BOOT 22
#define CAP_BPF 39
#define TCP_LISTEN 10
#define CAP_OPT_NOAUDIT 2 // include/linux/security.h
#define BPF_DEVCG_DEV_BLOCK 1
#define BPF_DEVCG_ACC_MKNOD 1

// include/uapi/linux/magic.h
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define TMPFS_MAGIC 0x01021994

// ---- user interface structures, fixed layout ----

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

struct bpf_sock;

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

struct bpf_sysctl {
	__u32 write;
	__u32 file_pos;
};

struct bpf_cgroup_dev_ctx {
	__u32 access_type; // what is asked << 16 | the device's type
	__u32 major;
	__u32 minor;
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
};

// ---- kernel structures, relocated ----
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	u32 hash;
	u32 len;
	const unsigned char *name;
};

struct inode;
struct super_block;
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mnt_namespace;
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	s64 i_ctime_sec; // 6.11 and later
	u32 i_ctime_nsec;
};
struct inode___6_6 { // 6.6 to 6.10
	struct timespec64 __i_ctime;
};
struct inode___5_8 { // until 6.5
	struct timespec64 i_ctime;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
	unsigned int f_flags;
	void *private_data;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	const char *interp;
	unsigned int per_clear;
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
	struct mount *root;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	atomic_t count; // of the tasks that have it
	struct fdtable *fdt;
};

struct tty_struct;
struct signal_struct {
	atomic_t live;
	struct tty_struct *tty;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

typedef struct {
	unsigned int val;
} kuid_t;

typedef struct {
	unsigned int val;
} kgid_t;

typedef struct {
	u64 val; // before 6.3 two words of 32 bits
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kernel_cap_t cap_effective;
};

struct pt_regs { // x86
	unsigned long orig_ax;
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long di;
	unsigned long si;
	unsigned long r8;
};
struct pt_regs___arm64 {
	u64 regs[31];
	s32 syscallno;
	u64 orig_x0;
};

struct thread_info {
	unsigned long flags;
	u32 status; // x86
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid;
	int tgid;
	u64 start_boottime;
	unsigned int personality;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct cred *cred;
	struct cred *real_cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct files_struct *files;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct css_set *cgroups;
};

struct sock_common {
	unsigned short skc_family;
	u16 skc_num; // the local port
};

struct sock {
	struct sock_common __sk_common;
};

struct socket {
	short type;
	struct sock *sk;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	struct sockaddr_un name[0];
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
};

#pragma clang attribute pop

// Helper ids, to ask whether the running kernel has one.
enum bpf_func_id___has {
	BPF_FUNC_ktime_get_tai_ns___has = 208,
};

#endif
