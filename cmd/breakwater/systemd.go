package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// supervised tells systemd that the program guards, and then that it lives, as
// often as the unit asks (sd_notify(3), WatchdogSec=): one that is stopped or
// stuck is ended and started again, and whoever waits for its answer goes on.
// Without systemd it returns at once.
func supervised(ctx context.Context) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", address) // @ is an abstract socket to both
	if err != nil {
		return // systemd will say that it heard nothing
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("READY=1"))
	usec, err := strconv.Atoi(os.Getenv("WATCHDOG_USEC"))
	if err != nil || usec <= 0 {
		return
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = conn.Write([]byte("STOPPING=1"))
			return
		case <-tick.C:
			_, _ = conn.Write([]byte("WATCHDOG=1"))
		}
	}
}
