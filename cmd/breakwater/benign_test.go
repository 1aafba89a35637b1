package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// ordinary is the packages that the workloads of TestOrdinaryWorkloads are made of.
func ordinary() []string {
	return []string{"nginx-light", "redis-server", "postgresql", "gcc", "libc6-dev", "make", "cron", "logrotate", "nodejs", "curl", "procps"}
}

// TestOrdinaryWorkloads: what people run every day, from their distribution's own
// packages, under the policy that every new host starts with, gives no alert of
// medium or higher and is not touched. What the attack suite shows, it shows
// under the same policy and severities.
func TestOrdinaryWorkloads(t *testing.T) {
	h := newWholeHost(t)
	b := &benign{wholeHost: h, debian: h.engine.DebianImage(t, ordinary()...)}
	h.start("--gate=no")
	h.apply(buildsRunWhatTheyMake)
	b.cron()
	b.nginx()
	b.redis()
	b.postgres()
	b.node()
	b.build()
	b.packages()
	b.administrator()
	b.cronRan()
	// What happened last has been told: so has whatever happened before.
	h.engine.Run("exec", "nginx", "sh", "-c", "cp /usr/bin/touch /at-the-end && /at-the-end /w/at-the-end")
	h.incidentsOf("nginx", 1, url.Values{"text": {"/at-the-end`"}})
	kinds := map[string]int{}
	for _, inc := range h.incidents(nil) {
		if inc.Event.Exec != nil && strings.Contains(inc.Event.Exec.Path, "at-the-end") {
			continue
		}
		if inc.Container == nil {
			continue // of the host's, on which other tests run
		}
		kinds[inc.Detection]++
		untouched := inc.Decision.Outcome == event.Detected && len(inc.Responses) == 0
		if inc.Severity != event.SeverityLow || !untouched {
			t.Errorf("%s: %s %s\n%+v\n%+v", inc.Severity, inc.Detection, inc.Sentence, inc.Event.Process, inc.Event)
		}
	}
	t.Logf("told as low: %v", kinds)
	for _, low := range []string{"terminal-shell", "compiler", "package-manager"} {
		if kinds[low] == 0 {
			t.Errorf("%s was not told: was anything seen?", low)
		}
	}
}

// buildsRunWhatTheyMake is the exception that the shipped baseline shows.
const buildsRunWhatTheyMake = `apiVersion: breakwater/v1
kind: Policy
metadata: {name: baseline-run, description: As shipped}
scope: "!container.build"
run:
  exec: {drift: block, fileless: kill}
  network: {metadataService: deny, effect: block}
  detections: {enable: ["*"]}
exceptions:
  - match: container.name in ["ci", "packages"] && rule == "run.exec.drift"
    reason: They run what they make
    expires: 2099-01-01
`

// benign is the host with the image of the workloads.
type benign struct {
	*wholeHost
	debian string
}

// service starts a container with a health check, and waits until it is healthy.
func (b *benign) service(name, health string, command ...string) {
	b.t.Helper()
	args := []string{"run", "-d", "--name", name, "--network=none", "-v", b.witness + ":/w", "--health-cmd", health, "--health-interval=1s", "--health-retries=60", b.debian}
	b.engine.MustRun(b.t, append(args, command...)...)
	b.until(name+" is healthy", func() bool {
		state := b.engine.MustRun(b.t, "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", name)
		if !strings.HasPrefix(state, "running") {
			out, errs, _ := b.engine.Run("logs", name)
			b.t.Fatalf("%s is %s\n%s%s", name, state, out, errs)
		}
		return strings.HasSuffix(state, " healthy")
	})
}

// in runs a script in a container.
func (b *benign) in(name, script string) {
	b.t.Helper()
	b.engine.MustRun(b.t, "exec", name, "bash", "-euc", script)
}

func (b *benign) file(name, content string) string {
	b.t.Helper()
	path := filepath.Join(filepath.Dir(b.data), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *benign) cron() {
	job := b.file("job", "* * * * * root /bin/sh -c 'date > /w/cron-ran'\n")
	b.engine.MustRun(b.t, "run", "-d", "--name=cron", "--network=none", "-v", b.witness+":/w", "-v", job+":/etc/cron.d/job:ro", b.debian, "cron", "-f")
}

// cronRan waits for the end of a minute: cron knows no sooner.
func (b *benign) cronRan() {
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.NewTicker(time.Second); !b.marked("cron-ran"); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatal("cron ran nothing in two minutes")
		}
	}
}

func (b *benign) nginx() {
	b.service("nginx", "curl -fsS http://127.0.0.1/ >/dev/null || exit 1", "nginx", "-g", "daemon off;")
	b.in("nginx", `
for i in $(seq 50); do curl -fsS http://127.0.0.1/ >/dev/null; done
nginx -t && nginx -s reload
logrotate -f /etc/logrotate.conf
test -f /var/log/nginx/access.log.1`)
}

func (b *benign) redis() {
	b.service("redis", "redis-cli ping | grep -q PONG", "redis-server", "--protected-mode", "no", "--dir", "/var/lib/redis", "--save", "1 1")
	b.in("redis", "redis-cli set a b; redis-benchmark -q -n 2000 -P 16 >/dev/null; redis-cli bgsave; redis-cli info >/dev/null")
}

func (b *benign) postgres() {
	b.service("postgres", "pg_isready -q -h /tmp && bash -c 'exec 3<>/dev/tcp/127.0.0.1/5432'", "bash", "-euc", `
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
mkdir -p /tmp/archive && chown postgres /tmp/archive
exec setpriv --reuid=postgres --regid=postgres --init-groups bash -euc '
initdb -D /tmp/pg >/dev/null
exec postgres -D /tmp/pg -k /tmp -c archive_mode=on -c "archive_command=test ! -f /tmp/archive/%f && cp %p /tmp/archive/%f"'`)
	b.in("postgres", `
run() { su postgres -c "$1"; }
bin=$(echo /usr/lib/postgresql/*/bin)
run "$bin/pgbench -h /tmp -q -i postgres 2>/dev/null"
run "$bin/pgbench -h /tmp -n -t 50 postgres >/dev/null 2>&1"
run "psql -q -h /tmp -c 'select pg_switch_wal()' >/dev/null"
run "pg_dump -h /tmp postgres > /tmp/dump.sql"
while ! ls /tmp/archive/* >/dev/null 2>&1; do run "psql -q -h /tmp -c checkpoint"; done`)
}

func (b *benign) node() {
	b.service("node", "curl -fsS http://127.0.0.1:8080/ | grep -q hello", "node", "-e",
		`require("http").createServer((q, r) => r.end("hello\n")).listen(8080)`)
	b.in("node", "for i in $(seq 50); do curl -fsS http://127.0.0.1:8080/ >/dev/null; done")
}

func (b *benign) build() {
	b.engine.MustRun(b.t, "run", "--rm", "--name=ci", "--network=none", b.debian, "bash", "-euc", `
mkdir -p /src/build && cd /src
cat > main.c <<'C'
#include <stdio.h>
int main(void) { puts("built"); return 0; }
C
printf 'all: build/main\nbuild/main: main.c\n\tgcc -O2 -o $@ $<\ntest: all\n\t./build/main | grep built\n' > Makefile
make all test
echo 'int main(void){return 0;}' > /tmp/conftest.c && gcc -o /tmp/conftest-dir-x /tmp/conftest.c && rm /tmp/conftest-dir-x`)
}

func (b *benign) packages() {
	b.engine.MustRun(b.t, "run", "--rm", "--name=packages", "--network=none", b.debian, "bash", "-euc", `
export DEBIAN_FRONTEND=noninteractive
mkdir -p /p/DEBIAN /p/usr/bin /p/etc/cron.d /p/lib/systemd/system /p/etc/init.d /p/etc/logrotate.d
printf 'Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n' > /p/DEBIAN/control
printf '#!/bin/sh\nset -e\nuseradd --system tool || true\nupdate-rc.d tool defaults || true\nmkdir -p /var/lib/tool; chown tool /var/lib/tool\n' > /p/DEBIAN/postinst
printf '#!/bin/sh\nset -e\nrm -rf /var/lib/tool\n' > /p/DEBIAN/postrm
chmod 755 /p/DEBIAN/postinst /p/DEBIAN/postrm
printf '#!/bin/sh\necho tool\n' > /p/usr/bin/tool; chmod 755 /p/usr/bin/tool
printf '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: tool\n# Required-Start:\n# Required-Stop:\n# Default-Start: 2\n# Default-Stop: 0\n### END INIT INFO\n' > /p/etc/init.d/tool; chmod 755 /p/etc/init.d/tool
echo '0 3 * * * root true' > /p/etc/cron.d/tool
printf '[Service]\nExecStart=/usr/bin/tool\n' > /p/lib/systemd/system/tool.service
dpkg-deb --build /p /tool.deb
apt-get install -y /tool.deb
tool
dpkg -i /tool.deb
apt-get purge -y tool`)
}

// administrator is a person at a terminal, who looks around.
func (b *benign) administrator() {
	b.t.Helper()
	if _, err := exec.LookPath("script"); err != nil {
		testenv.Missing(b.t, "a terminal (script of util-linux): %v", err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	client := b.engine.Command(ctx, "exec", "-it", "nginx", "bash")
	session := exec.CommandContext(ctx, "script", "-qec", strings.Join(client.Args, " "), "/dev/null")
	session.Env = client.Env
	session.Stdin = strings.NewReader(`ls -la /etc/nginx
ps aux
top -bn1 | head
df -h; free -m; uptime; id; whoami; uname -a
cat /var/log/nginx/access.log.1 | tail -n 3
cat /etc/passwd /etc/os-release
env | sort
nginx -t
curl -s http://127.0.0.1/ | head -n 2
find /var/log -name '*.log'
grep -r listen /etc/nginx/sites-enabled
dpkg -l | wc -l
echo "# looked at" >> /etc/nginx/nginx.conf
nginx -s reload
exit
`)
	if out, err := session.CombinedOutput(); err != nil || !strings.Contains(string(out), "nginx: worker") {
		b.t.Errorf("the administrator's session: %v\n%s", err, out)
	}
}
