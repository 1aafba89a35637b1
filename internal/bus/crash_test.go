package bus_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/bus"
	"github.com/breakwater-sec/breakwater/internal/spool"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

const roleVariable = "BREAKWATER_TEST_BUS_ROLE"

// TestMain lets the test binary be the server or the agent that is killed.
func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVariable), ":")
	var err error
	switch role {
	case "server":
		err = runServer(dir)
	case "agent":
		err = runAgent(dir)
	default:
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, role, err)
	os.Exit(1)
}

func read(dir, name string) []byte {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		panic(err)
	}
	return b
}

// runServer is a bus with a store in SQLite, one row per key.
func runServer(dir string) error {
	ctx := context.Background()
	pair, err := tls.X509KeyPair(read(dir, "cert"), read(dir, "key"))
	if err != nil {
		return err
	}
	db, err := openStore(dir)
	if err != nil {
		return err
	}
	s, err := bus.Serve(ctx, bus.Options{Dir: filepath.Join(dir, "bus"), Listen: string(read(dir, "listen")),
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, Agents: map[string]string{"a1": string(read(dir, "public"))},
		Notice: func(s string) { fmt.Fprintln(os.Stderr, "server:", s) }})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return s.Receive(ctx, func(ctx context.Context, b api.Batch) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for _, r := range b.Records {
			_, err := tx.ExecContext(ctx, `INSERT INTO records (key, kind) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET times = times + 1`, r.Key, r.Kind)
			if err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

func openStore(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "store.db")+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, kind TEXT NOT NULL, times INTEGER NOT NULL DEFAULT 1)`)
	return db, err
}

// runAgent appends incidents and events, prints the key of each incident that the
// spool has taken, and sends.
func runAgent(dir string) error {
	ctx := context.Background()
	s, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{})
	if err != nil {
		return err
	}
	a, err := bus.Connect(ctx, bus.AgentOptions{URL: "tls://" + string(read(dir, "listen")), CA: read(dir, "ca"), NKeySeed: read(dir, "seed"), Agent: "a1"})
	if err != nil {
		return err
	}
	go func() { fmt.Fprintln(os.Stderr, "uplink:", a.Uplink(ctx, s)) }()
	limiter := time.NewTicker(2 * time.Millisecond)
	for i := 0; ; i++ {
		<-limiter.C
		key := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if _, err := s.Append(ctx, api.RecordEvent, "e"+key, time.Now(), []byte(`{}`)); err != nil {
			return err
		}
		if _, err := s.Append(ctx, api.RecordIncident, "i"+key, time.Now(), []byte(`{}`)); err != nil {
			return err
		}
		fmt.Println("i" + key)
	}
}

// part is a subprocess and the lines that it printed.
type part struct {
	cmd   *exec.Cmd
	done  chan struct{}
	mu    sync.Mutex
	lines []string
}

func start(t *testing.T, role, dir string) *part {
	t.Helper()
	p := &part{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role+":"+dir)
	if testing.Verbose() {
		p.cmd.Stderr = os.Stderr
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, scanner.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process as a crash would.
func (p *part) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.cmd.Wait()
}

func (p *part) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

func prepare(t *testing.T) string {
	t.Helper()
	dir, id, authority := t.TempDir(), newIdentity(t), testenv.NewAuthority(t)
	cert, key := authority.Issue(t, "server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, content := range map[string][]byte{"cert": cert, "key": key, "ca": authority.PEM, "seed": []byte(id.seed),
		"public": []byte(id.public), "listen": []byte(l.Addr().String())} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestKillAnyPartLosesAndDuplicatesNothing kills server and agent in random
// order while records flow, and then compares what the agent promised with the
// store.
func TestKillAnyPartLosesAndDuplicatesNothing(t *testing.T) {
	dir := prepare(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	var promised []string
	srv, agent := start(t, "server", dir), start(t, "agent", dir)
	for range 8 {
		target := len(agent.said()) + 20 + dice.IntN(60)
		eventually(t, "the agent goes on", func() bool { return len(agent.said()) >= target })
		which := dice.IntN(3)
		if which != 1 {
			srv.kill()
		}
		if which != 0 {
			agent.kill()
			promised = append(promised, agent.said()...)
			agent = start(t, "agent", dir)
		}
		if which != 1 {
			srv = start(t, "server", dir)
			eventually(t, "the server is back", func() bool { return len(srv.said()) == 1 })
		}
	}
	agent.kill()
	promised = append(promised, agent.said()...)
	drain(t, dir)
	compare(t, dir, promised)
}

// drain sends what the killed agents left in the spool.
func drain(t *testing.T, dir string) {
	t.Helper()
	s, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	last, err := s.Append(t.Context(), api.RecordIncident, "end", time.Now(), []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	a, err := bus.Connect(t.Context(), bus.AgentOptions{URL: "tls://" + string(read(dir, "listen")), CA: read(dir, "ca"), NKeySeed: read(dir, "seed"), Agent: "a1"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Uplink(ctx, s) }()
	eventually(t, "the spool is empty", func() bool { return s.Committed() == last })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func compare(t *testing.T, dir string, promised []string) {
	t.Helper()
	db, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	missing := 0
	for _, key := range promised {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM records WHERE key = ?1`, key).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 1 {
			missing++
		}
	}
	var rows, deliveries int
	if err := db.QueryRow(`SELECT count(*), sum(times) FROM records`).Scan(&rows, &deliveries); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d incidents promised, %d missing; %d rows from %d deliveries", len(promised), missing, rows, deliveries)
	if missing > 0 || len(promised) == 0 {
		t.Errorf("%d of %d promised incidents are missing", missing, len(promised))
	}
}

// TestServerStoppedMidStream stops and starts the server in the process, with a
// stream that holds batches no store has taken.
func TestServerStoppedMidStream(t *testing.T) {
	dir, id, authority := t.TempDir(), newIdentity(t), testenv.NewAuthority(t)
	config := authority.ServerTLS(t)
	options := bus.Options{Dir: dir, TLS: config, Agents: map[string]string{"a1": id.public}}
	first, err := bus.Serve(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	s := fill(t, 3000)
	options.Listen = strings.TrimPrefix(first.URL(), "tls://")
	h := &harbour{Server: first, authority: authority}
	uplink(t, h.connect(t, "a1", id), s)
	eventually(t, "batches wait in the stream", func() bool { return first.Counts().Received >= 2 })
	first.Close()
	second, err := bus.Serve(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	k := &keep{rows: map[string]int{}}
	h = &harbour{Server: second, authority: authority}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Receive(ctx, k.take) }()
	eventually(t, "all are stored", func() bool { return k.size() == 3000 && s.Committed() == 3000 })
	cancel()
	<-done
}
