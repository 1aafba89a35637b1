package main

import "testing"

func TestReachable(t *testing.T) {
	for _, c := range [][3]string{
		{"tls://127.0.0.1:8444", "server.example", "tls://127.0.0.1:8444"},
		{"tls://0.0.0.0:8444", "server.example", "tls://server.example:8444"},
		{"tls://[::]:8444", "server.example", "tls://server.example:8444"},
		{"tls://[::]:8444", "2001:db8::1", "tls://[2001:db8::1]:8444"},
		{"tls://[2001:db8::2]:8444", "server.example", "tls://[2001:db8::2]:8444"},
	} {
		if got, err := reachable(c[0], c[1]); err != nil || got != c[2] {
			t.Errorf("reachable(%q, %q) = %q, %v; want %q", c[0], c[1], got, err, c[2])
		}
	}
	if got, err := reachable("tls://%zz", "x"); err == nil {
		t.Errorf("a bad address gave %q", got)
	}
}
