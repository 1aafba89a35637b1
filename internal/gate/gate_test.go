package gate_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

func TestImagesAndParameters(t *testing.T) {
	l := newLab(t, strictPolicy)
	good := l.digest(l.busybox)

	t.Run("an image that nobody scanned", func(t *testing.T) {
		l.refused(t, l.run(), "image.unscanned", "fix:")
	})
	l.setReport(good)
	t.Run("an image without vulnerabilities, with all limits", func(t *testing.T) {
		l.engine.MustRun(t, l.run()...)
	})
	t.Run("an image that policy refuses", func(t *testing.T) {
		bad := l.engine.BuildImage(t, "bw-bad:1", "FROM "+l.busybox+"\nLABEL of=bad\n", nil)
		l.setReport(bad, event.SeverityCritical)
		args := append(append([]string{"run", "--rm"}, limits...), "bw-bad:1", "true")
		l.refused(t, args, "image.maxSeverity", "CVE-2026-0001", bad[:19])
		t.Run("a moved tag has the verdict of its content", func(t *testing.T) {
			l.engine.MustRun(t, "tag", l.busybox, "bw-moved:1")
			allowed := append(append([]string{"run", "--rm"}, limits...), "bw-moved:1", "true")
			l.engine.MustRun(t, allowed...)
			l.engine.MustRun(t, "tag", bad, "bw-moved:1")
			l.refused(t, allowed, "image.maxSeverity")
		})
	})
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"privileged", []string{"--privileged"}, "start.privileged"},
		{"pid namespace", []string{"--pid=host"}, "pid namespace"},
		{"ipc namespace", []string{"--ipc=host"}, "ipc namespace"},
		{"uts namespace", []string{"--uts=host"}, "uts namespace"},
		{"user namespace", []string{"--userns=host"}, "user namespace"},
		{"cgroup namespace", []string{"--cgroupns=host"}, "cgroup namespace"},
		{"capability", []string{"--cap-add=SYS_ADMIN"}, "SYS_ADMIN"},
		{"capability in the kernel's spelling", []string{"--cap-add=cap_net_admin"}, "NET_ADMIN"},
		{"the whole host", []string{"-v", "/:/host"}, "start.mounts"},
		{"a folder below", []string{"-v", "/etc/ssl:/x:ro"}, "start.mounts"},
		{"by --mount", []string{"--mount=type=bind,src=/etc,dst=/x"}, "start.mounts"},
		{"the engine's socket", []string{"-v", "/run/docker.sock:/s"}, "start.mounts"},
		{"through a process's root", []string{"-v", "/proc/1/root/etc:/x"}, "start.mounts"},
		{"by a volume that binds", []string{"--mount", "type=volume,dst=/x,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/etc"}, "start.mounts"},
		{"by an overlay volume", []string{"--mount", `type=volume,dst=/x,volume-driver=local,volume-opt=type=overlay,volume-opt=device=overlay,"volume-opt=o=lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w"`}, "start.mounts"},
		{"device", []string{"--device=/dev/null:/dev/x"}, "/dev/null"},
		{"device cgroup rule", []string{"--device-cgroup-rule=a *:* rwm"}, "cgroup-rule"},
		{"seccomp", []string{"--security-opt=seccomp=unconfined"}, "require.seccomp"},
	} {
		t.Run("forbidden: "+c.name, func(t *testing.T) { l.refused(t, l.run(c.args...), c.want) })
	}
	t.Run("forbidden: net namespace", func(t *testing.T) {
		args := l.run()
		args[2] = "--network=host"
		l.refused(t, args, "net namespace")
	})
	t.Run("every reason is told", func(t *testing.T) {
		l.refused(t, []string{"run", "--rm", "--privileged", "--pid=host", "-v", "/etc:/x", l.busybox, "true"},
			"start.privileged", "pid namespace", "start.mounts", "require.memoryLimit", "require.pidsLimit",
			"require.noNewPrivileges", "require.readOnlyRootfs", "authorization denied by plugin", "\n  2. ", "--memory")
	})
	t.Run("a link to a forbidden folder", func(t *testing.T) {
		link := t.TempDir() + "/innocent"
		symlink(t, "/etc", link)
		l.refused(t, l.run("-v", link+":/x"), "start.mounts")
	})
	t.Run("volumes of another container", func(t *testing.T) {
		l.setPolicy(2, lenientPolicy)
		id := l.engine.MustRun(t, "create", "-v", "/etc:/x", l.busybox)
		l.engine.MustRun(t, "volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/etc", "hidden")
		l.engine.Remove(t, id)
		l.setPolicy(3, strictPolicy)
		l.refused(t, l.run("--volumes-from", id), "start.mounts")
		l.refused(t, l.run("-v", "hidden:/y"), "start.mounts")
	})
	t.Run("joining a container in the host's namespace", func(t *testing.T) {
		l.setPolicy(4, lenientPolicy)
		id := l.engine.MustRun(t, "run", "-d", "--network=none", "--pid=host", l.busybox, "sleep", "300")
		l.engine.Remove(t, id)
		l.setPolicy(5, strictPolicy)
		l.refused(t, l.run("--pid=container:"+id), "pid namespace")
	})
	t.Run("an image that is not here is the engine's to refuse", func(t *testing.T) {
		_, stderr, _ := l.engine.Run("create", "--pull=never", "no-such:1")
		if !strings.Contains(stderr, "No such image") {
			t.Errorf("said: %s", stderr)
		}
	})
}

func TestCreateAndStart(t *testing.T) {
	l := newLab(t, strictPolicy)
	digest := l.digest(l.busybox)
	l.setReport(digest)
	id := l.engine.MustRun(t, append(append([]string{"create"}, limits...), l.busybox, "sleep", "300")...)
	l.engine.Remove(t, id)

	t.Run("the image's verdict changed in between", func(t *testing.T) {
		l.setReport(digest, event.SeverityCritical)
		l.refused(t, []string{"start", id}, "image.maxSeverity")
		l.setReport(digest)
		l.engine.MustRun(t, "start", id)
	})
	t.Run("a restart is a start", func(t *testing.T) {
		l.setReport(digest, event.SeverityCritical)
		l.refused(t, []string{"restart", "-t", "0", id}, "image.maxSeverity")
		l.setReport(digest)
		l.engine.MustRun(t, "restart", "-t", "0", id)
	})
	t.Run("policy changed in between", func(t *testing.T) {
		l.setPolicy(2, lenientPolicy)
		loose := l.engine.MustRun(t, "create", "--network=none", "--pid=host", l.busybox, "true")
		l.engine.Remove(t, loose)
		l.setPolicy(3, strictPolicy)
		l.refused(t, []string{"start", loose}, "pid namespace", "require.memoryLimit")
	})
	t.Run("a start with parameters of its own", func(t *testing.T) {
		code, said := l.send(t, "POST", "/v1.23/containers/"+id+"/start", "application/json", strings.NewReader(`{"Privileged":true}`))
		if code != 403 || !strings.Contains(said, "parameters of its own") {
			t.Errorf("%d %s", code, said)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if got := l.engine.MustRun(t, "exec", id, "echo", "hello"); got != "hello" {
			t.Errorf("said %q", got)
		}
		l.refused(t, []string{"exec", "--privileged", id, "true"}, "start.privileged")
	})
	t.Run("update", func(t *testing.T) {
		l.engine.MustRun(t, "update", "--memory=96m", "--memory-swap=96m", id)
		l.refused(t, []string{"update", "--pids-limit=-1", id}, "require.pidsLimit")
	})
}

func TestCallsThatHide(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	evil := `{"Image":"` + l.busybox + `","HostConfig":{"Privileged":true,"Memory":67108864,"PidsLimit":64,"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true}}`
	big := `{"Image":"` + l.busybox + `","Labels":{"x":"` + strings.Repeat("y", 2<<20) + `"},"HostConfig":{"Privileged":true}}`
	const asJSON = "application/json"
	for _, c := range []struct{ name, target, contentType, body, want string }{
		{"plainly", "/v1.41/containers/create", asJSON, evil, "start.privileged"},
		{"without a version", "/containers/create", asJSON, evil, "start.privileged"},
		{"an encoded path", "/v1.41/containers%2Fcreate", asJSON, evil, "start.privileged"},
		{"an encoded letter", "/v1.41/c%6fntainers/create", asJSON, evil, "start.privileged"},
		{"more than 1 MiB", "/v1.41/containers/create", asJSON, big, "did not show"},
		{"keys in another case", "/v1.41/containers/create", asJSON, strings.ReplaceAll(strings.ToLower(evil), l.busybox, l.busybox), "start.privileged"},
		{"two keys", "/v1.41/containers/create", asJSON, strings.Replace(evil, `"HostConfig":`, `"HostConfig":{},"hostconfig":`, 1), "stands twice"},
		{"two keys by the long s", "/v1.41/containers/create", asJSON, strings.Replace(evil, `"HostConfig":`, `"HostConfig":{},"Ho\u017ftConfig":`, 1), "stands twice"},
		{"outside of HostConfig", "/v1.41/containers/create", asJSON, `{"Image":"` + l.busybox + `","Privileged":true}`, "start.privileged"},
		{"inside and outside", "/v1.41/containers/create", asJSON, strings.Replace(evil, `"HostConfig"`, `"Binds":["/etc:/x"],"HostConfig"`, 1), "inside and outside"},
		{"something behind", "/v1.41/containers/create", asJSON, `{"Image":"x"}` + evil, "follows"},
		{"no body", "/v1.41/containers/create", asJSON, "", "did not show"},
		{"an unknown call", "/v1.41/containers/teleport", asJSON, evil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, said := l.send(t, "POST", c.target, c.contentType, strings.NewReader(c.body))
			if code < 400 || !strings.Contains(said, c.want) {
				t.Errorf("%d %s", code, said)
			}
		})
	}
	t.Run("in chunks", func(t *testing.T) {
		code, said := l.send(t, "POST", "/v1.41/containers/create", asJSON, struct{ *strings.Reader }{strings.NewReader(evil)})
		if code != 403 {
			t.Errorf("%d %s", code, said)
		}
	})
	t.Run("as another kind of content", func(t *testing.T) {
		for _, kind := range []string{"text/plain", "application/json; charset=utf-8", "application/x-tar", ""} {
			code, said := l.send(t, "POST", "/v1.41/containers/create", kind, strings.NewReader(evil))
			if code < 400 {
				t.Errorf("%q: %d %s", kind, code, said)
			}
		}
	})
	t.Run("a path that is not plain", func(t *testing.T) {
		for _, target := range []string{"//containers/create", "/v1.41//containers/create", "/v1.41/./containers/create", "/v1.41/x/../containers/create", "/v1.41/containers/create/"} {
			code, said := l.send(t, "POST", target, asJSON, strings.NewReader(evil))
			if code/100 == 2 {
				t.Errorf("%s: %d %s", target, code, said)
			}
		}
	})
	t.Run("nothing was created", func(t *testing.T) {
		if ids := l.engine.MustRun(t, "ps", "-aq"); ids != "" {
			t.Errorf("containers: %s", ids)
		}
	})
	t.Run("engine plugins and swarm", func(t *testing.T) {
		code, said := l.send(t, "POST", "/v1.41/plugins/pull?remote=x", asJSON, strings.NewReader("[]"))
		if code != 403 || !strings.Contains(said, "--allow=plugins") {
			t.Errorf("%d %s", code, said)
		}
		l.refused(t, []string{"swarm", "init", "--advertise-addr", "127.0.0.1"}, "--allow=swarm")
	})
}
