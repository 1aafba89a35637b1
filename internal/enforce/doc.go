// Package enforce decides what containers may do, in the kernel: it compiles
// the run section of policies into the maps that the programs of package bpf
// read, and says which container stands under which policy.
//
// Policies live in slots, addressed by content. A policy that changes gets a
// new slot; containers are switched to it in one write each, so that at no
// moment something is allowed that both the old and the new policy refuse.
//
// Everything outlives this process: Close leaves it in force, Unload ends it.
package enforce
