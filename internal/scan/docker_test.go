package scan_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// dockerfile makes an image by real steps: packages come and go, a directory
// is emptied and filled again, metadata steps make no layer.
const dockerfile = `FROM BASE
COPY os-release /etc/os-release
COPY status1 /var/lib/dpkg/status
ENV A=b
COPY npm /app/node_modules
COPY status2 /var/lib/dpkg/status
RUN rm -r /app/node_modules/mocha
RUN rm -r /app/node_modules/left && mkdir -p /app/node_modules/left && echo '{"name":"left","version":"2.0.0"}' > /app/node_modules/left/package.json
COPY tool /usr/local/bin/tool
USER 10001
`

func buildImage(t *testing.T, d *testenv.Docker, name string) {
	t.Helper()
	dir := t.TempDir()
	write := func(path, body string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", strings.Replace(dockerfile, "BASE", d.BusyboxImage(t), 1))
	write("os-release", osRelease)
	write("status1", status1)
	write("status2", status2)
	write("npm/lodash/package.json", lodash)
	write("npm/mocha/package.json", `{"name":"mocha","version":"6.2.0"}`)
	write("npm/left/package.json", `{"name":"left","version":"1.0.0"}`)
	write("main.go", "package main\n\nfunc main() {}\n")
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "tool"), filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	build := d.Command(t.Context(), "build", "--network=none", "-t", name, dir)
	build.Env = append(build.Environ(), "DOCKER_BUILDKIT=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, msg)
	}
}

// found is "name version step", without the checksums in COPY steps.
func found(rep *report.Report) []string {
	var out []string
	for _, p := range rep.Packages {
		step, _, _ := strings.Cut(p.Step, " ")
		if p.Name == "busybox" {
			continue // of this machine: its version is not ours
		}
		if p.Name == "stdlib" {
			p.Version = ""
		}
		out = append(out, strings.Join([]string{p.Name, p.Version, step}, " "))
	}
	return out
}

func TestDockerEngineAndItsArchiveAgree(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.NeedDocker(t)
	const name = "bw-scan-test:1"
	buildImage(t, d, name)
	rep, err := scan.Image(t.Context(), scan.Options{Target: name, Engine: "unix://" + d.Socket})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"curl 7.88.1-10 COPY", "libc6 2.36-9 COPY", "stdlib  COPY", "left 2.0.0 RUN", "lodash 4.17.15 COPY"}
	if got := found(rep); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if id := strings.TrimSpace(d.MustRun(t, "image", "inspect", "-f", "{{.Id}}", name)); rep.Image.Digest != id {
		t.Errorf("digest %s, the engine says %s", rep.Image.Digest, id)
	}
	if !slices.Contains(rep.Image.References, name) || rep.Config.User != "10001" {
		t.Errorf("got %+v, %+v", rep.Image, rep.Config)
	}
	libc := rep.Packages[slices.IndexFunc(rep.Packages, func(p event.Package) bool { return p.Name == "libc6" })]
	curl := rep.Packages[slices.IndexFunc(rep.Packages, func(p event.Package) bool { return p.Name == "curl" })]
	if libc.LayerIndex >= curl.LayerIndex {
		t.Errorf("libc6 came with layer %d, curl with %d", libc.LayerIndex, curl.LayerIndex)
	}

	file := filepath.Join(t.TempDir(), "image.tar")
	d.MustRun(t, "save", "-o", file, name)
	saved, err := scan.Image(t.Context(), scan.Options{Target: file})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(saved.Packages, rep.Packages, func(a, b event.Package) bool { return a.PURL == b.PURL && a.Layer == b.Layer && a.Path == b.Path }) || saved.Image.Digest != rep.Image.Digest {
		t.Errorf("engine:  %q\narchive: %q", found(rep), found(saved))
	}

	_, err = scan.Image(t.Context(), scan.Options{Target: "docker:nginx:1.99", Engine: "unix://" + d.Socket})
	if err == nil || !strings.Contains(err.Error(), `image "nginx:1.99": not found in docker (unix://`) {
		t.Errorf("unknown image: %v", err)
	}
	_, err = scan.Image(t.Context(), scan.Options{Target: "Not A Name", Engine: "unix://" + d.Socket})
	if err == nil || !strings.HasPrefix(err.Error(), `image "Not A Name": docker (unix://`) {
		t.Errorf("bad name: %v", err)
	}
}
