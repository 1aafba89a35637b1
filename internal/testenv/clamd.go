package testenv

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Clamd is a real ClamAV daemon with a database, folder and process of its own.
// The database knows EICAR's test file, by its hash and by its body, and
// nothing else.
type Clamd struct {
	Address string // host:port
	Socket  string

	dir string
	cmd *exec.Cmd
	log bytes.Buffer
}

// EICAR is the test file that every engine takes for malware. It is put
// together here so that our own files hold no such thing.
func EICAR() string {
	return `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + "EICAR-STANDARD-" + `ANTIVIRUS-TEST-FILE!$H+H*`
}

// NeedClamd starts a daemon that takes streams of at most streamMax bytes.
func NeedClamd(t testing.TB, streamMax int) *Clamd {
	t.Helper()
	if _, err := exec.LookPath("clamd"); err != nil {
		Missing(t, "needs clamd (Debian: clamav-daemon)")
	}
	dir := t.TempDir()
	c := &Clamd{dir: dir, Address: FreeAddress(t), Socket: filepath.Join(dir, "clamd.ctl")}
	database := filepath.Join(dir, "database")
	if err := os.Mkdir(database, 0o755); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(c.Address)
	eicar := EICAR()
	for name, text := range map[string]string{
		"database/test.hdb": fmt.Sprintf("%x:%d:Test.Eicar.Hash\n", md5.Sum([]byte(eicar)), len(eicar)),
		"database/test.ndb": fmt.Sprintf("Test.Eicar.Body:0:*:%x\n", eicar[28:]),
		"clamd.conf": fmt.Sprintf("Foreground yes\nDatabaseDirectory %s\nTCPSocket %s\nTCPAddr %s\nLocalSocket %s\nStreamMaxLength %d\nMaxThreads 4\nTemporaryDirectory %s\nAlertExceedsMax yes\nSelfCheck 86400\n",
			database, port, host, c.Socket, streamMax, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.Kill)
	c.start(t)
	return c
}

func (c *Clamd) start(t testing.TB) {
	t.Helper()
	c.cmd = exec.Command("clamd", "--config-file="+filepath.Join(c.dir, "clamd.conf"))
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(60 * time.Second)
	for {
		conn, err := net.Dial("unix", c.Socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			c.Kill()
			t.Fatalf("clamd does not listen on %s: %v\n%s", c.Socket, err, c.log.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Kill ends the daemon as a crash does.
func (c *Clamd) Kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
}
