package testenv_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func TestDocker(t *testing.T) {
	d := testenv.NeedDocker(t)
	if again := testenv.NeedDocker(t); again != d {
		t.Error("a second engine was started for the same test binary")
	}
	busybox := d.BusyboxImage(t)

	t.Run("its containers stand in the machine's cgroups", func(t *testing.T) {
		id := d.MustRun(t, "run", "-d", "--network=none", busybox, "sleep", "60")
		d.Remove(t, id)
		pid := d.MustRun(t, "inspect", "-f", "{{.State.Pid}}", id)
		data, err := os.ReadFile("/proc/" + pid + "/cgroup")
		if err != nil || !strings.Contains(string(data), "/docker/"+id) {
			t.Errorf("cgroups of a container: %v\n%s", err, data)
		}
	})
	t.Run("it builds images", func(t *testing.T) {
		digest := d.BuildImage(t, "bw-built:1", "FROM "+busybox+"\nCOPY hello /bin/hello\nRUN /bin/hello >/said\nCMD [\"cat\",\"/said\"]\n",
			map[string][]byte{"hello": []byte("#!/bin/sh\necho hello\n")})
		if !strings.HasPrefix(digest, "sha256:") {
			t.Errorf("config digest = %q", digest)
		}
		if got := d.MustRun(t, "run", "--rm", "--network=none", "bw-built:1"); got != "hello" {
			t.Errorf("the image says %q", got)
		}
	})
	t.Run("a refusal is an exit code and a message", func(t *testing.T) {
		_, stderr, code := d.Run("run", "--rm", "no-such-image:1")
		if code != 125 || !strings.Contains(stderr, "no-such-image") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
}

func TestDockerOfOnesOwn(t *testing.T) {
	d := testenv.NewDocker(t, testenv.WithConfig([]byte(`{"labels":["of=mine"]}`)))
	if got := d.MustRun(t, "info", "-f", "{{.Labels}}"); got != "[of=mine]" {
		t.Errorf("labels = %s", got)
	}
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	d.MustRun(t, "version")
}
