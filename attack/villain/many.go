package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scan tries ports of one machine, one after the other.
func scan(address, from, count string) error {
	to, first, n, err := target(address, from, count)
	for i := 0; i < n && err == nil; i++ {
		err = knock(to, first+i)
	}
	return err
}

// sweep tries one port of many machines.
func sweep(address, port, count string) error {
	to, at, n, err := target(address, port, count)
	raw := to.As4()
	first := binary.BigEndian.Uint32(raw[:])
	for i := 0; i < n && err == nil; i++ {
		binary.BigEndian.PutUint32(raw[:], first+uint32(i))
		err = knock(netip.AddrFrom4(raw), at)
	}
	return err
}

func target(address, port, count string) (to netip.Addr, at, n int, err error) {
	to, err = netip.ParseAddr(address)
	at, bad := strconv.Atoi(port)
	n, worse := strconv.Atoi(count)
	if err = errorsOf(err, bad, worse); err == nil && !to.Is4() {
		err = fmt.Errorf("%s is no IPv4 address", address)
	}
	return to, at, n, err
}

// knock begins a connection and waits for nobody.
func knock(to netip.Addr, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: to.As4()})
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return nil // tried is tried
	}
	return err
}

// askMany asks a server for many names; each has other digits for # in the pattern.
func askMany(server, pattern, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	conn, err := net.Dial("udp", server)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range n {
		raw, err := question(strings.ReplaceAll(pattern, "#", fmt.Sprintf("%04x", uint16(i)*40503))) // odd: no two alike
		if err != nil {
			return err
		}
		if _, err := conn.Write(raw); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	return nil
}
