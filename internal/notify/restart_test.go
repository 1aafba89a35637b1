package notify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify"
	"github.com/breakwater-sec/breakwater/internal/notify/transport/syslog"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

const forwarderVariable = "BREAKWATER_TEST_FORWARDER"

// TestMain lets the test binary be the forwarder that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(forwarderVariable); dir != "" {
		fmt.Fprintln(os.Stderr, forward(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// folder is a source on disk: the file "count" says how many incidents there
// are, "cursor" is the saved cursor.
type folder string

func (f folder) number(name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(b), 10, 64)
}

func (f folder) write(name string, n uint64) error {
	path := filepath.Join(string(f), name)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatUint(n, 10)), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (f folder) After(_ context.Context, cursor uint64, limit int) ([]notify.Entry, error) {
	n, err := f.number("count")
	var list []notify.Entry
	for c := cursor + 1; c <= n && len(list) < limit; c++ {
		list = append(list, notify.Entry{Cursor: c, Incident: event.Incident{Key: fmt.Sprintf("key-%d", c), Host: "h", Time: time.Now()}})
	}
	return list, err
}

func (f folder) SaveCursor(_ context.Context, cursor uint64) error { return f.write("cursor", cursor) }

func forward(dir string) error {
	f := folder(dir)
	cursor, err := f.number("cursor")
	if err != nil {
		return err
	}
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		return err
	}
	r, err := syslog.New(syslog.Config{Address: string(address), CA: filepath.Join(dir, "ca.pem")})
	if err != nil {
		return err
	}
	return notify.New(f, r, notify.Options{Cursor: cursor, Poll: 10 * time.Millisecond, Settle: 2 * time.Second}).Run(context.Background())
}

type forwarder struct{ cmd *exec.Cmd }

func startForwarder(t *testing.T, dir string) *forwarder {
	t.Helper()
	f := &forwarder{exec.Command(os.Args[0])}
	f.cmd.Env = append(os.Environ(), forwarderVariable+"="+dir)
	if testing.Verbose() {
		f.cmd.Stderr = os.Stderr
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.kill)
	return f
}

func (f *forwarder) kill() {
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait()
}

// deliveries counts each key that the receiver wrote down.
func deliveries(t *testing.T, server *testenv.Rsyslog) map[string]int {
	t.Helper()
	key := regexp.MustCompile(`key="([^"]*)"`)
	counts := map[string]int{}
	for _, m := range server.Read(t) {
		if found := key.FindStringSubmatch(m.Structured); found != nil {
			counts[found[1]]++
		}
	}
	return counts
}

// TestEveryIncidentReachesRsyslogAcrossRestarts stops the receiver, kills the
// forwarder, and both, while incidents come.
func TestEveryIncidentReachesRsyslogAcrossRestarts(t *testing.T) {
	server := testenv.NeedRsyslog(t, false)
	server.Start(t)
	dir := t.TempDir()
	ca, err := os.ReadFile(server.CA)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.pem": ca, "address": []byte(server.Address)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, n := startForwarder(t, dir), uint64(0)
	more := func(count uint64) {
		t.Helper()
		n += count
		if err := folder(dir).write("count", n); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() bool { return deliveries(t, server)[fmt.Sprintf("key-%d", n)] > 0 }
	for round := range 6 {
		more(40)
		if round%2 == 0 { // else it is stopped with the batch under way
			eventually(t, "the batch arrives", arrived)
		}
		if round%3 != 1 {
			server.Stop()
		}
		more(7) // while somebody is away
		if round%3 != 0 {
			f.kill()
			f = startForwarder(t, dir)
		}
		if round%3 != 1 {
			server.Start(t)
		}
	}
	eventually(t, "the last incident arrives", arrived)
	got, repeated := deliveries(t, server), 0
	var missing []string
	for i := uint64(1); i <= n; i++ {
		switch times := got[fmt.Sprintf("key-%d", i)]; {
		case times == 0:
			missing = append(missing, fmt.Sprint(i))
		case times > 1:
			repeated++
		}
	}
	t.Logf("%d incidents, %d repeated", n, repeated)
	if len(missing) > 0 {
		t.Errorf("missing: %s", strings.Join(missing, " "))
	}
}

// TestKilledReceiver: what a killed rsyslog had read and not written down comes
// again, as long as it was in doubt.
func TestKilledReceiver(t *testing.T) {
	server := testenv.NeedRsyslog(t, false)
	server.Start(t)
	r, err := syslog.New(syslog.Config{Address: server.Address, CA: server.CA})
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{n: 500}
	f := notify.New(s, r, notify.Options{Poll: 5 * time.Millisecond, Settle: time.Hour})
	run(t, f)
	eventually(t, "some are sent", func() bool { return f.State().Sent > 0 })
	server.Kill()
	s.set(700, nil)
	server.Start(t)
	eventually(t, "all 700 arrive", func() bool { return len(deliveries(t, server)) == 700 })
}
