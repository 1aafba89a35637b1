// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Which system call just ended. Numbers as in the kernel's tables:
// arch/x86/entry/syscalls/syscall_{64,32}.tbl, include/uapi/asm-generic/unistd.h
// and arch/arm64/tools/syscall_32.tbl.
#ifndef BREAKWATER_CALL_H
#define BREAKWATER_CALL_H

enum call_kind {
	CALL_OTHER,
	CALL_OPEN,    // returns the descriptor of a file
	CALL_SOCKET,  // returns the descriptor of a socket
	CALL_CONNECT, // fd is the socket
	CALL_MAP,     // maps the file fd with the protection prot
	CALL_MODULE,  // loads or removes a module, or another kernel
	CALL_BPF,     // bpf(2)
	CALL_HANDLE,  // opens a file by a handle, past every mount
	CALL_MEMORY,  // brk, mmap and others that only account for memory
};

struct call {
	u32 kind;
	u32 prot;
	u64 fd;
	u32 family; // of CALL_SOCKET; 0: in memory
	u32 number;
	u32 compat; // of the 32-bit table
	u64 first;  // argument
	u64 second;
};

#define TS_COMPAT 2	   // arch/x86/include/asm/thread_info.h
#define TIF_32BIT_ARM (1 << 22) // arch/arm64/include/asm/thread_info.h
#define X32_BIT 0x40000000

// The i386 call that carries the others: its arguments are in memory.
#define SOCKETCALL 102
#define SOCKETCALL_SOCKET 1
#define SOCKETCALL_CONNECT 3

static __always_inline bool in_x86_compat(void)
{
	return READ(current_task(), thread_info.status) & TS_COMPAT;
}

static __always_inline void x86_64_call(struct call *call, struct pt_regs *regs, u32 nr)
{
	switch (nr) {
	case 2:	  // open
	case 85:  // creat
	case 257: // openat
	case 304: // open_by_handle_at
	case 437: // openat2
		call->kind = CALL_OPEN;
		break;
	case 9: // mmap
		call->kind = CALL_MAP;
		call->prot = READ(regs, dx);
		call->fd = (u32)READ(regs, r8);
		break;
	case 41: // socket
		call->kind = CALL_SOCKET;
		call->family = READ(regs, di);
		break;
	case 42: // connect
		call->kind = CALL_CONNECT;
		call->fd = (u32)READ(regs, di);
		break;
	}
}

static __always_inline void socketcall(struct call *call, struct pt_regs *regs)
{
	u32 fd = 0;

	switch ((u32)READ(regs, bx)) {
	case SOCKETCALL_SOCKET:
		call->kind = CALL_SOCKET;
		break;
	case SOCKETCALL_CONNECT:
		call->kind = CALL_CONNECT;
		bpf_probe_read_user(&fd, sizeof(fd), (void *)(u64)(u32)READ(regs, cx));
		call->fd = fd;
		break;
	}
}

static __always_inline void i386_call(struct call *call, struct pt_regs *regs, u32 nr)
{
	switch (nr) {
	case 5:	  // open
	case 8:	  // creat
	case 295: // openat
	case 342: // open_by_handle_at
	case 437: // openat2
		call->kind = CALL_OPEN;
		break;
	case SOCKETCALL:
		socketcall(call, regs);
		break;
	case 192: // mmap2
		call->kind = CALL_MAP;
		call->prot = READ(regs, dx);
		call->fd = (u32)READ(regs, di);
		break;
	case 359: // socket
		call->kind = CALL_SOCKET;
		call->family = READ(regs, bx);
		break;
	case 362: // connect
		call->kind = CALL_CONNECT;
		call->fd = (u32)READ(regs, bx);
		break;
	}
}

static __always_inline void arm64_call(struct call *call, struct pt_regs___arm64 *regs, u32 nr)
{
	switch (nr) {
	case 56:  // openat
	case 265: // open_by_handle_at
	case 437: // openat2
		call->kind = CALL_OPEN;
		break;
	case 222: // mmap
		call->kind = CALL_MAP;
		call->prot = READ(regs, regs[2]);
		call->fd = (u32)READ(regs, regs[4]);
		break;
	case 198: // socket
		call->kind = CALL_SOCKET;
		call->family = READ(regs, orig_x0);
		break;
	case 203: // connect
		call->kind = CALL_CONNECT;
		call->fd = (u32)READ(regs, orig_x0);
		break;
	}
}

static __always_inline void arm32_call(struct call *call, struct pt_regs___arm64 *regs, u32 nr)
{
	switch (nr) {
	case 5:	  // open
	case 8:	  // creat
	case 322: // openat
	case 371: // open_by_handle_at
	case 437: // openat2
		call->kind = CALL_OPEN;
		break;
	case 192: // mmap2
		call->kind = CALL_MAP;
		call->prot = READ(regs, regs[2]);
		call->fd = (u32)READ(regs, regs[4]);
		break;
	case 281: // socket
		call->kind = CALL_SOCKET;
		call->family = READ(regs, orig_x0);
		break;
	case 283: // connect
		call->kind = CALL_CONNECT;
		call->fd = (u32)READ(regs, orig_x0);
		break;
	}
}

// may_matter: a call of x86 that one of its two tables knows; the table is
// asked for afterwards, which costs more.
static __always_inline bool may_matter(u32 nr)
{
	switch (nr) {
	case 2: case 5: case 8: case 9: case 41: case 42: case 85: case SOCKETCALL: case 192:
	case 257: case 295: case 304: case 342: case 359: case 362: case 437:
		return true;
	}
	return false;
}

// what_call reads the call's number from the registers, where the kernel took
// it from; a tracer can change them only before the call.
static __always_inline void what_call(struct call *call, struct pt_regs *regs)
{
	struct pt_regs___arm64 *arm = (void *)regs;
	u32 nr;

	if (bpf_core_field_exists(regs->orig_ax)) {
		nr = READ(regs, orig_ax) & ~X32_BIT;
		if (!may_matter(nr))
			return;
		if (in_x86_compat())
			i386_call(call, regs, nr);
		else
			x86_64_call(call, regs, nr);
	} else if (bpf_core_field_exists(arm->syscallno)) {
		nr = READ(arm, syscallno);
		if (READ(current_task(), thread_info.flags) & TIF_32BIT_ARM)
			arm32_call(call, arm, nr);
		else
			arm64_call(call, arm, nr);
	}
}

// mmap, mprotect, brk, mremap, clone, fork, vfork, execve, exit.
#define MEMORY_CALLS_X86_64 \
	(1ULL << 9 | 1ULL << 10 | 1ULL << 12 | 1ULL << 25 | 1ULL << 56 | 1ULL << 57 | 1ULL << 58 | 1ULL << 59 | 1ULL << 60)

static __always_inline void right_x86_64(struct call *call)
{
	switch (call->number) {
	case 175: case 176: case 313: case 246: case 320: // init, delete, finit_module, kexec_load, kexec_file_load
		call->kind = CALL_MODULE;
		break;
	case 321:
		call->kind = CALL_BPF;
		break;
	case 304:
		call->kind = CALL_HANDLE;
		break;
	case 9: case 10: case 12: case 25: case 56: case 57: case 58: case 59: case 322: case 435: case 231: case 60:
		call->kind = CALL_MEMORY; // mmap, mprotect, brk, mremap, clone, fork, vfork, execve, …
		break;
	}
}

static __always_inline void right_i386(struct call *call)
{
	switch (call->number) {
	case 128: case 129: case 350: case 283: // init, delete, finit_module, kexec_load
		call->kind = CALL_MODULE;
		break;
	case 357:
		call->kind = CALL_BPF;
		break;
	case 342:
		call->kind = CALL_HANDLE;
		break;
	case 90: case 192: case 125: case 45: case 163: case 120: case 2: case 190: case 11: case 358: case 435:
		call->kind = CALL_MEMORY;
		break;
	}
}

static __always_inline void right_arm64(struct call *call)
{
	switch (call->number) {
	case 105: case 106: case 273: case 104: case 294:
		call->kind = CALL_MODULE;
		break;
	case 280:
		call->kind = CALL_BPF;
		break;
	case 265:
		call->kind = CALL_HANDLE;
		break;
	case 222: case 226: case 214: case 216: case 220: case 221: case 281: case 435:
		call->kind = CALL_MEMORY;
		break;
	}
}

static __always_inline void right_arm32(struct call *call)
{
	switch (call->number) {
	case 128: case 129: case 379: case 347: case 401:
		call->kind = CALL_MODULE;
		break;
	case 386:
		call->kind = CALL_BPF;
		break;
	case 371:
		call->kind = CALL_HANDLE;
		break;
	case 90: case 192: case 125: case 45: case 163: case 120: case 2: case 190: case 11: case 387: case 435:
		call->kind = CALL_MEMORY;
		break;
	}
}

// accounts: a call that only asks whether there is memory (CAP_SYS_ADMIN may have
// the last of it), which is most of what rights are asked for.
static __always_inline bool accounts(struct pt_regs *regs)
{
	struct pt_regs___arm64 *arm = (void *)regs;
	u32 nr;

	if (bpf_core_field_exists(regs->orig_ax)) {
		nr = READ(regs, orig_ax);
		if ((s32)nr < 0)
			return true; // in no call: a stack that grows
		if (nr > 63 || !(MEMORY_CALLS_X86_64 >> nr & 1))
			return false;
		return !in_x86_compat();
	}
	if (!bpf_core_field_exists(arm->syscallno))
		return false;
	nr = READ(arm, syscallno);
	if ((s32)nr < 0)
		return true;
	return nr >= 214 && nr <= 226 && !(READ(current_task(), thread_info.flags) & TIF_32BIT_ARM);
}

// what_right is what_call for calls that were asked for a right.
static __always_inline void what_right(struct call *call, struct pt_regs *regs)
{
	struct pt_regs___arm64 *arm = (void *)regs;

	what_call(call, regs);
	if (bpf_core_field_exists(regs->orig_ax)) {
		call->number = READ(regs, orig_ax) & ~X32_BIT;
		call->compat = in_x86_compat();
		call->first = call->compat ? READ(regs, bx) : READ(regs, di);
		call->second = call->compat ? READ(regs, cx) : READ(regs, si);
		if (call->compat)
			right_i386(call);
		else
			right_x86_64(call);
	} else if (bpf_core_field_exists(arm->syscallno)) {
		call->number = READ(arm, syscallno);
		call->compat = (READ(current_task(), thread_info.flags) & TIF_32BIT_ARM) != 0;
		call->first = READ(arm, orig_x0);
		call->second = READ(arm, regs[1]);
		if (call->compat)
			right_arm32(call);
		else
			right_arm64(call);
	}
}

#endif
