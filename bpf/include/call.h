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
};

struct call {
	u32 kind;
	u32 prot;
	u64 fd;
	u32 family; // of CALL_SOCKET; 0: in memory
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

#endif
