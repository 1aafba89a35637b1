// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// Fork bombs: how fast a container's processes become more. Two things tell one from
// a server that starts its workers, or a build: a process that was forked forks
// again, and so do its children, and none of them executes a program; and sheer
// number. Neither needs to be exact: what is counted twice or lost between two
// processors is a few among hundreds.
#ifndef BREAKWATER_BIRTHS_H
#define BREAKWATER_BIRTHS_H

// A server that makes itself a daemon forks its workers in two or three steps, a
// shell's pipeline inside of a substitution in as many. Hundreds of workers that one
// process starts (php-fpm, Apache, PostgreSQL) come in as few.
#define FORKS_DEEP 4
#define DEEP_MOST 100
#define ALL_MOST 1000

// born counts a process, and says whether with it there are too many: at the very
// moment, so that it is told about once a second at most while they stay.
static __always_inline bool born(struct container *c, u64 now, u8 forks)
{
	bool bomb;

	if (now - c->since > SECOND) {
		c->since = now;
		c->born = 0;
		c->deep = 0;
	}
	bomb = __sync_fetch_and_add(&c->born, 1) == ALL_MOST;
	if (forks >= FORKS_DEEP && __sync_fetch_and_add(&c->deep, 1) == DEEP_MOST)
		bomb = true;
	return bomb;
}

// ran: a process executed a program of its own, which ends its row of forks.
static __always_inline void ran(struct container *c, struct proc *p)
{
	if (p->forks >= FORKS_DEEP && p->start >= c->since)
		__sync_fetch_and_add(&c->deep, -1);
	p->forks = 0;
}

static __always_inline void died(struct container *c, struct proc *p)
{
	if (p->start < c->since)
		return; // it was not counted
	__sync_fetch_and_add(&c->born, -1);
	if (p->forks >= FORKS_DEEP)
		__sync_fetch_and_add(&c->deep, -1);
}

#endif
