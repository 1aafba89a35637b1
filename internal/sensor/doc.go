// Package sensor is the agent's ear in the kernel: it loads the programs of
// package bpf, keeps them pinned so that they outlive every agent, reads what
// they report and turns it into events with a bounded process tree.
//
// It loads; package enforce writes the maps that decide. Both work on the same
// Objects. One agent at a time may hold a pin folder: a lock on the folder says
// so to the second one.
package sensor
