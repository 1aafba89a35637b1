package truth

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

// TestWalk: ten images that a real engine built, each read from every place that
// an image can lie in, with the same packages and findings.
//
// WALK_ROOTS adds root file systems (folders, separated by colons), such as those
// of debootstrap, npm install and pip install.
func TestWalk(t *testing.T) {
	testenv.NeedRoot(t)
	w := walk{docker: testenv.NeedDocker(t), registry: testenv.NewRegistry(t), podman: testenv.NewPodman(t, "overlay")}
	w.docker.MustRun(t, "login", "-u", w.registry.User, "-p", w.registry.Password, w.registry.Host)
	w.options = scan.Options{
		Matcher: open(t), Engine: "unix://" + w.docker.Socket, Containerd: "unix://" + filepath.Join(w.docker.Dir, "containerd.sock"), Storage: w.podman.Root,
		Registry: image.NewRegistry(image.RegistryOptions{Username: w.registry.User, Password: w.registry.Password, CA: w.registry.Authority.PEM}),
	}
	images := w.images(t)
	if len(images) < 10 {
		t.Fatalf("%d images", len(images))
	}
	for _, i := range images {
		t.Run(i.name, func(t *testing.T) { w.everywhere(t, i) })
	}
}

type walk struct {
	docker   *testenv.Docker
	registry *testenv.Registry
	podman   *testenv.Podman
	options  scan.Options
}

// walked is an image of the walk, and lines that must be among what is found.
type walked struct {
	name     string
	context  string // of docker build
	packages []string
	findings []string
}

// images are those of the recipes, and four of other kinds.
func (w *walk) images(t *testing.T) (list []walked) {
	text, err := os.ReadFile(filepath.Join("testdata", "expected.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var truth map[string]expected
	if err := yaml.UnmarshalWithOptions(text, &truth, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for name, want := range truth {
		list = append(list, walked{name, w.recipe(t, name), want.Packages, want.Findings})
	}
	osRelease, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		testenv.Missing(t, "no packages of this machine: %v", err)
	}
	version, err := exec.CommandContext(t.Context(), "dpkg-query", "-W", "-f", "${Version}", "dpkg").Output()
	if err != nil {
		testenv.Missing(t, "dpkg-query: %v", err)
	}
	wheel := map[string][]byte{
		"srv/venv/lib/python3.11/site-packages/urllib3-1.26.12.dist-info/METADATA": []byte("Metadata-Version: 2.1\nName: urllib3\nVersion: 1.26.12\nLicense: MIT\n\n"),
		"srv/venv/lib/python3.11/site-packages/urllib3-1.26.12.dist-info/RECORD":   []byte("urllib3/__init__.py,,\nurllib3-1.26.12.dist-info/METADATA,,\n"),
		"srv/venv/lib/python3.11/site-packages/urllib3/__init__.py":                []byte("\n"),
	}
	node := map[string][]byte{
		"app/package.json":                     []byte(`{"name":"shop","version":"1.0.0","dependencies":{"lodash":"4.17.15"}}`),
		"app/node_modules/.package-lock.json":  []byte(`{"name":"shop","version":"1.0.0","lockfileVersion":3,"packages":{"node_modules/lodash":{"version":"4.17.15"},"node_modules/@acme/cart":{"version":"2.0.0"}}}`),
		"app/node_modules/lodash/package.json": []byte(`{"name":"lodash","version":"4.17.15","license":"MIT"}`), "app/node_modules/@acme/cart/package.json": []byte(`{"name":"@acme/cart","version":"2.0.0"}`),
	}
	list = append(list,
		walked{"host", w.root(t, map[string][]byte{"etc/os-release": osRelease, "var/lib/dpkg/status": status}), []string{"dpkg " + string(version)}, nil},
		walked{"wheel", w.root(t, wheel), []string{"PyPI urllib3 1.26.12"}, []string{"CVE-2023-43804 urllib3 1.26.12"}},
		walked{"node", w.root(t, node), []string{"npm lodash 4.17.15", "npm @acme/cart 2.0.0"}, []string{"CVE-2020-8203 lodash 4.17.15"}},
		walked{"static", w.root(t, map[string][]byte{"tool": program(t, []byte("package main\n\nimport \"example.org/dep\"\n\nfunc main() { println(dep.Name) }\n"))}),
			[]string{"Go example.org/dep v1.2.3"}, []string{"GO-2099-0001 example.org/dep v1.2.3"}})
	for _, root := range filepath.SplitList(os.Getenv("WALK_ROOTS")) {
		if err := os.WriteFile(filepath.Join(root, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		list = append(list, walked{name: filepath.Base(root), context: root})
	}
	return list
}

// root makes an image of one layer.
func (w *walk) root(t *testing.T, files map[string][]byte) (context string) {
	dir := t.TempDir()
	for name, data := range files {
		write(t, filepath.Join(dir, "root", name), data)
		if name == "tool" {
			if err := os.Chmod(filepath.Join(dir, "root", name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY root /\n"))
	return dir
}

// recipe makes the Dockerfile of a recipe: a COPY for each layer, and a RUN for
// what one removes.
func (w *walk) recipe(t *testing.T, name string) (context string) {
	a, err := txtar.ParseFile(filepath.Join("testdata", "recipes", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir, base := t.TempDir(), "scratch"
	steps := map[int][]string{}
	for _, f := range a.Files {
		number, file, _ := strings.Cut(f.Name, "/")
		layer, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if gone, ok := strings.CutPrefix(path.Base(file), ".wh."); ok {
			base = w.docker.BusyboxImage(t)
			steps[layer] = append(steps[layer], "RUN rm -r /"+path.Join(path.Dir(file), gone))
			continue
		}
		e := entry(t, file, f.Data)
		write(t, filepath.Join(dir, number, e.Name), e.Body)
		if err := os.Chmod(filepath.Join(dir, number, e.Name), e.FileInfo().Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		if copied := "COPY " + number + " /"; !slices.Contains(steps[layer], copied) {
			steps[layer] = append(steps[layer], copied)
		}
	}
	lines := []string{"FROM " + base}
	for layer := range len(steps) {
		lines = append(lines, steps[layer]...)
	}
	write(t, filepath.Join(dir, "Dockerfile"), []byte(strings.Join(lines, "\n")+"\n"))
	return dir
}

func (w *walk) everywhere(t *testing.T, i walked) {
	local, remote := "bw-walk-"+i.name+":1", w.registry.Host+"/walk/"+i.name+":1"
	build := w.docker.Command(t.Context(), "build", "--network=none", "-t", local, i.context)
	build.Env = append(build.Environ(), "DOCKER_BUILDKIT=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, msg)
	}
	dir := t.TempDir()
	archive, oci, layout, folder, bom := filepath.Join(dir, "image.tar"), filepath.Join(dir, "oci.tar"), filepath.Join(dir, "layout"), filepath.Join(dir, "root"), filepath.Join(dir, "bom.json")
	w.docker.MustRun(t, "save", "-o", archive, local)
	w.docker.MustRun(t, "tag", local, remote)
	w.docker.MustRun(t, "push", remote)
	w.docker.Ctr(t, "images", "import", archive)
	w.podman.Run(t, "load", "-i", archive)
	w.podman.Run(t, "save", "--format", "oci-archive", "-o", oci, local)
	w.podman.Run(t, "save", "--format", "oci-dir", "-o", layout, local)
	container := w.docker.MustRun(t, "create", local, "/none")
	w.docker.MustRun(t, "export", "-o", filepath.Join(dir, "export.tar"), container)
	w.docker.Remove(t, container)
	unpack(t, filepath.Join(dir, "export.tar"), folder)

	first := w.scan(t, "docker:"+local)
	w.contains(t, "package", i.packages, each(first.Packages, packageLine))
	w.contains(t, "finding", i.findings, each(first.Findings, findingLine))
	writeSBOM(t, bom, first)
	want := lines(first, true)
	for _, target := range []string{"containerd:" + local, "podman:" + local, "registry:" + remote, "docker-archive:" + archive, "oci-archive:" + oci, "oci-layout:" + layout, "sbom:" + bom} {
		same(t, target, want, lines(w.scan(t, target), true))
	}
	same(t, "dir:"+folder, lines(first, false), lines(w.scan(t, "dir:"+folder), false)) // a folder has no layers
}

func (w *walk) scan(t *testing.T, target string) *report.Report {
	t.Helper()
	o := w.options
	o.Target = target
	rep, err := scan.Image(t.Context(), o)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return rep
}

// contains: the truth is there, whatever else the base brought.
func (w *walk) contains(t *testing.T, what string, want, got []string) {
	t.Helper()
	for _, line := range want {
		line, _, _ = strings.Cut(line, " @")
		line, _, _ = strings.Cut(line, " GOVERSION")
		if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, line) }) {
			t.Errorf("a true %s is lost: %s", what, line)
		}
	}
}

// lines are what must not depend on the source.
func lines(rep *report.Report, layers bool) (out []string) {
	of := func(p event.Package) string {
		s := p.PURL + " owner=" + p.Owner
		if layers {
			s += fmt.Sprintf(" layer %d %s", p.LayerIndex, p.Path)
		}
		return s
	}
	for _, p := range rep.Packages {
		out = append(out, "package "+of(p))
	}
	for _, f := range rep.Findings {
		out = append(out, fmt.Sprintf("finding %s %s %s %s %s", f.ID, of(f.Package), f.State, f.FixedVersion, f.Severity))
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, target string, want, got []string) {
	t.Helper()
	if slices.Equal(want, got) {
		return
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s: lost: %s", target, line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s: nowhere else: %s", target, line)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%s: %d lines instead of %d", target, len(got), len(want))
	}
}

func unpack(t *testing.T, archive, folder string) {
	t.Helper()
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", folder).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

func writeSBOM(t *testing.T, name string, rep *report.Report) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := report.CycloneDX(f, rep); err != nil {
		t.Fatal(err)
	}
}
