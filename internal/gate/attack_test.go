package gate_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// What somebody with the engine's socket tries who knows how the gate reads.
func TestAttacksOnTheReading(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	volume := func(options ...string) []string {
		return l.run("--mount", "type=volume,dst=/x,volume-driver=local,volume-opt="+strings.Join(options, ",volume-opt="))
	}
	up := strings.Repeat("../", 12)
	t.Run("a volume's device relative to the engine's folder", func(t *testing.T) {
		for _, device := range []string{up + "etc", "./" + up + "etc"} {
			l.refused(t, volume("type=none", "o=bind", "device="+device), "start.mounts")
		}
	})
	t.Run("an overlay of relative folders", func(t *testing.T) {
		l.refused(t, l.run("--mount", `type=volume,dst=/x,volume-driver=local,volume-opt=type=overlay,volume-opt=device=overlay,"volume-opt=o=lowerdir=`+up+`etc"`), "start.mounts")
	})
	t.Run("a volume that reads no host folder", func(t *testing.T) {
		l.engine.MustRun(t, volume("type=tmpfs", "device=tmpfs", "o=size=1m")...)
	})
	t.Run("a seccomp profile that allows everything", func(t *testing.T) {
		profile := filepath.Join(t.TempDir(), "all.json")
		if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		l.refused(t, l.run("--security-opt=seccomp="+profile), "require.seccomp")
	})
}

// An engine could take a build's parameters from a form in the body before
// those of the URI.
func TestBuildParametersInABody(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	context := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "FROM %s\nRUN grep -c . /proc/net/dev\n", l.busybox)
	}))
	defer context.Close()
	code, said := l.send(t, "POST", "/v1.41/build?networkmode=host&remote="+context.URL, "application/x-tar", strings.NewReader(""))
	if code != 403 {
		t.Fatalf("plainly: %d %s", code, said)
	}
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded":   "networkmode=host&remote=" + context.URL,
		"Application/X-WWW-Form-Urlencoded; ": "networkmode=host&remote=" + context.URL,
		"multipart/form-data; boundary=b": "--b\r\nContent-Disposition: form-data; name=\"networkmode\"\r\n\r\nhost\r\n" +
			"--b\r\nContent-Disposition: form-data; name=\"remote\"\r\n\r\n" + context.URL + "\r\n--b--\r\n",
	} {
		code, said := l.send(t, "POST", "/v1.41/build", kind, strings.NewReader(body))
		if code != 403 {
			t.Errorf("%s: %d %s", kind, code, said)
		}
	}
}

// A container that is not there when the gate looks could be there, by another
// name, when the engine acts.
func TestNothingToStart(t *testing.T) {
	l := newLab(t, lenientPolicy)
	for _, args := range [][]string{{"start", "nobody"}, {"restart", "nobody"}, {"update", "--memory=64m", "nobody"}} {
		l.refused(t, args, "gate.missing", "No such container")
	}
}

// What a checkpoint holds is memory, which no image and no policy describes.
func TestStartFromACheckpoint(t *testing.T) {
	l := newLab(t, lenientPolicy)
	id := l.engine.MustRun(t, "create", "--network=none", l.busybox, "true")
	l.engine.Remove(t, id)
	code, said := l.send(t, "POST", "/v1.41/containers/"+id+"/start?checkpoint=c&checkpoint-dir=/tmp", "", nil)
	if code != 403 || !strings.Contains(said, "checkpoint") {
		t.Errorf("%d %s", code, said)
	}
}

// An image that is only mounted brings its programs all the same. Engines
// before 28 cannot do it, so the gate is asked in their place.
func TestMountedImages(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	bad := l.engine.BuildImage(t, "bw-mounted:1", "FROM "+l.busybox+"\nLABEL of=bad\n", nil)
	l.setReport(bad, event.SeverityCritical)
	body := fmt.Sprintf(`{"Image":%q,"HostConfig":{"Memory":67108864,"PidsLimit":64,"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true,
		"Mounts":[{"Type":"image","Source":"bw-mounted:1","Target":"/x"}]}}`, l.busybox)
	request := fmt.Sprintf(`{"RequestMethod":"POST","RequestUri":"/v1.48/containers/create","RequestBody":%q}`, base64.StdEncoding.EncodeToString([]byte(body)))
	said := exchange(t, unixClient(l.plugin), http.MethodPost, "http://gate/AuthZPlugin.AuthZReq", request)
	if !strings.Contains(string(said), "image.maxSeverity") {
		t.Errorf("%s", said)
	}
}

// Nobody who may only make containers can have a device of the host's, under
// whatever name, mounted for them.
func TestDeviceNodeInAVolume(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	node := filepath.Join(t.TempDir(), "disk")
	if err := syscall.Mknod(node, syscall.S_IFBLK|0o600, 7<<8); err != nil {
		testenv.Missing(t, "making a device node: %v", err)
	}
	l.refused(t, l.run("--mount", "type=volume,dst=/x,volume-driver=local,volume-opt=type=ext4,volume-opt=device="+node), "start.mounts")
}

// The host's network by its id, or a network made like it.
func TestHostNetworkByAnotherName(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	id := l.engine.MustRun(t, "network", "inspect", "-f", "{{.Id}}", "host")
	for _, name := range []string{id, id[:12]} {
		args := l.run("cat", "/proc/net/route")
		args[2] = "--network=" + name
		if out, stderr, code := l.engine.Run(args...); code == 0 {
			t.Errorf("--network=%s ran: %s%s", name, out, stderr)
		}
	}
}

// A refusal is noted however much the request says, and so is a start.
func TestLongRequestsAreNoted(t *testing.T) {
	l := newLab(t, strictPolicy)
	l.setReport(l.digest(l.busybox))
	a := l.startAgent(nil)
	create := func(more string) (int, string) {
		body := fmt.Sprintf(`{"Image":%q,"HostConfig":{"Memory":67108864,"PidsLimit":64,"SecurityOpt":["no-new-privileges"],"ReadonlyRootfs":true,"NetworkMode":"none"%s}`, l.busybox, more)
		return l.send(t, "POST", "/v1.41/containers/create", "application/json", strings.NewReader(body))
	}
	labels := `},"Labels":{"x":"` + strings.Repeat("<", 600<<10) + `"}`
	for name, more := range map[string]string{
		"labels": `,"Privileged":true` + labels,
		"binds":  `,"Binds":["/etc:/a` + strings.Repeat(`","/etc:/`+strings.Repeat("b", 2000), 300) + `"]}`,
		"words":  `,"CapAdd":["` + strings.Repeat("<", 600<<10) + `"]}`,
	} {
		notes, _, _, _ := a.seen()
		if code, said := create(more); code != 403 || len(said) > 100<<10 {
			t.Errorf("%s: %d, %d bytes: %.300s", name, code, len(said), said)
		}
		l.until("the refusal because of "+name+" is noted", func() bool {
			now, _, _, _ := a.seen()
			return len(now) > len(notes)
		})
	}
	code, said := create(labels)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(said), &made); code != 201 || err != nil {
		t.Fatalf("%d %v: %.300s", code, err, said)
	}
	l.engine.Remove(t, made.ID)
	l.engine.MustRun(t, "start", made.ID)
	if _, starts, _, _ := a.seen(); len(starts) != 1 || starts[0].ID != made.ID {
		t.Errorf("%d starts were told", len(starts))
	}
	// What is too long to hand over is left out; the agent asks the engine then.
	if told := a.told[0]; told.Inspection != nil || told.Engine != "" {
		t.Errorf("%d bytes were handed over", len(told.Inspection))
	}
	small := l.engine.MustRun(t, append(append([]string{"create"}, limits...), l.busybox, "true")...)
	l.engine.Remove(t, small)
	l.engine.MustRun(t, "start", small)
	var handed struct{ ID string }
	told := a.told[1]
	if err := json.Unmarshal(told.Inspection, &handed); err != nil || handed.ID != small || told.Engine != l.engine.Socket || len(told.References) == 0 {
		t.Errorf("handed over: %v %s of %q, names %q", err, handed.ID, told.Engine, told.References)
	}
}
