// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
//
// How the programs read the kernel's structures. Since 6.2 a program may say of
// what type an address is (bpf_rdonly_cast), and each field is then one load
// that reads 0 where nothing is mapped. Before that every field takes the call
// of a helper, several times as long. Each object is compiled both ways.
#ifndef BREAKWATER_READ_H
#define BREAKWATER_READ_H

#ifdef READ_BY_HELPER

#define READ BPF_CORE_READ

#else

extern void *bpf_rdonly_cast(const void *address, u32 type) __ksym;

#define TYPED(TYPE, ADDRESS) \
	((TYPE *)bpf_rdonly_cast((const void *)(ADDRESS), bpf_core_type_id_kernel(TYPE)))

// READ is source->field->field…
#define READ(SOURCE, ...) ___arrow(TYPED(typeof(*(SOURCE)), SOURCE), __VA_ARGS__)

#endif
#endif
