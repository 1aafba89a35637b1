// Package truth holds the quality gate: images built from recipes, advisories in
// their publishers' formats, and what the two make true, written down by hand.
// A lost true finding or package fails it, and so does any that is not true.
package truth

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/intel"
	"github.com/breakwater-sec/breakwater/internal/inventory/rpm/rpmtest"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

func TestMain(m *testing.M) {
	if scan.IsReader(os.Args) {
		os.Exit(scan.Reader(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

type expected struct {
	Packages []string `yaml:"packages"`
	Findings []string `yaml:"findings"`
}

func TestTruth(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "expected.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var truth map[string]expected
	if err := yaml.UnmarshalWithOptions(text, &truth, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	bundle := open(t)
	recipes, err := filepath.Glob(filepath.Join("testdata", "recipes", "*.txtar"))
	if err != nil || len(recipes) != len(truth) {
		t.Fatalf("%d recipes, %d expectations, %v", len(recipes), len(truth), err)
	}
	for _, recipe := range recipes {
		name := strings.TrimSuffix(filepath.Base(recipe), ".txtar")
		t.Run(name, func(t *testing.T) {
			rep, err := scan.Image(t.Context(), scan.Options{Target: "docker-archive:" + build(t, recipe), Matcher: bundle})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "package", truth[name].Packages, each(rep.Packages, packageLine))
			compare(t, "finding", truth[name].Findings, each(rep.Findings, findingLine))
			checkOrder(t, rep)
		})
	}
}

// checkOrder: a report is the same each time.
func checkOrder(t *testing.T, rep *report.Report) {
	t.Helper()
	for _, f := range rep.Findings {
		if !slices.IsSortedFunc(f.Ratings, func(a, b event.Rating) int { return strings.Compare(a.Source, b.Source) }) {
			t.Errorf("%s: ratings are not sorted: %+v", f.ID, f.Ratings)
		}
	}
}

func each[T any](list []T, line func(T) string) (out []string) {
	for _, x := range list {
		out = append(out, line(x))
	}
	return out
}

func packageLine(p event.Package) string {
	s := fmt.Sprintf("%s %s %s @%d", p.Ecosystem, p.Name, p.Version, p.LayerIndex)
	if p.Locked {
		s += " locked"
	}
	if p.Owner != "" {
		s += " owner=" + p.Owner
	}
	return s
}

func findingLine(f event.Finding) string {
	s := fmt.Sprintf("%s %s %s: %s", f.ID, f.Package.Name, f.Package.Version, f.State)
	if f.FixedVersion != "" {
		s += " " + f.FixedVersion
	}
	s += fmt.Sprintf(" %s (%s)", f.Severity, f.SeveritySource)
	if f.KnownExploited {
		s += " exploited"
	}
	return s
}

// compare: both ways, every line as often as it stands there.
func compare(t *testing.T, what string, want, got []string) {
	t.Helper()
	left := slices.Clone(got)
	for _, w := range want {
		w = strings.ReplaceAll(w, "GOVERSION", strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go"))
		if i := slices.Index(left, w); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			t.Errorf("a true %s is lost: %s", what, w)
		}
	}
	for _, g := range left {
		t.Errorf("a %s that is not true: %s", what, g)
	}
}

// open builds a bundle of the fixture, laid out as a mirror.
func open(t *testing.T) *intel.Bundle {
	t.Helper()
	fixture, err := txtar.ParseFile(filepath.Join("testdata", "advisories.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	mirror, exports := t.TempDir(), map[string]map[string][]byte{}
	for _, f := range fixture.Files {
		if dir, file := path.Split(f.Name); strings.HasPrefix(dir, "osv/") && strings.HasSuffix(file, ".json") {
			if exports[dir] == nil {
				exports[dir] = map[string][]byte{}
			}
			exports[dir][file] = f.Data
			continue
		}
		name := f.Name
		if strings.HasPrefix(name, "nvd/") {
			name += ".gz" // by name only: what is not compressed is read too
		}
		write(t, filepath.Join(mirror, name), f.Data)
	}
	for dir, files := range exports {
		write(t, filepath.Join(mirror, dir, "all.zip"), zipped(t, files))
	}
	data := t.TempDir()
	m, err := intel.Build(t.Context(), intel.Options{Data: data, Source: "file://" + mirror, Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Failures() {
		t.Logf("not in the bundle: %+v", f)
	}
	bundle, err := intel.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bundle.Close() })
	return bundle
}

// build makes the image archive of a recipe.
func build(t *testing.T, recipe string) string {
	t.Helper()
	a, err := txtar.ParseFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	var layers [][]imagetest.Entry
	for _, f := range a.Files {
		number, name, _ := strings.Cut(f.Name, "/")
		n, err := strconv.Atoi(number)
		if err != nil || n > len(layers) {
			t.Fatalf("%s: no layer", f.Name)
		}
		if n == len(layers) {
			layers = append(layers, nil)
		}
		layers[n] = append(layers[n], entry(t, name, f.Data))
	}
	img := imagetest.Image{Tags: []string{"truth:1"}}
	for _, l := range layers {
		img.Layers = append(img.Layers, imagetest.Tar(t, withFolders(l)...))
	}
	// The images stay for other scanners to read, where one asks for it:
	// docs/peers.md.
	dir := os.Getenv("TRUTH_IMAGES")
	if dir == "" {
		dir = t.TempDir()
	}
	out := filepath.Join(dir, strings.TrimSuffix(filepath.Base(recipe), ".txtar")+".tar")
	write(t, out, img.Archive(t, imagetest.OCI))
	return out
}

// withFolders puts the folders before what lies in them, as builders of images do.
func withFolders(entries []imagetest.Entry) (out []imagetest.Entry) {
	seen := map[string]bool{".": true}
	var add func(dir string)
	add = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		add(path.Dir(dir))
		out = append(out, imagetest.Dir(dir))
	}
	for _, e := range entries {
		add(path.Dir(e.Name))
		out = append(out, e)
	}
	return out
}

// entry is a file of a layer; some are made of what the recipe says.
func entry(t *testing.T, name string, data []byte) imagetest.Entry {
	t.Helper()
	if base, ok := strings.CutSuffix(name, ".pom"); ok {
		group, artifact := property(data, "groupId"), property(data, "artifactId")
		return imagetest.File(base, string(zipped(t, map[string][]byte{
			"META-INF/MANIFEST.MF": []byte("Manifest-Version: 1.0\r\nCreated-By: a test\r\n\r\n"),
			"META-INF/maven/" + group + "/" + artifact + "/pom.properties": data,
		})))
	}
	if base, ok := strings.CutSuffix(name, ".go"); ok {
		return imagetest.Program(base, program(t, data))
	}
	if base, ok := strings.CutSuffix(name, ".rpmdb"); ok {
		if strings.HasSuffix(base, ".sqlite") {
			return imagetest.File(base, string(rpmtest.SQLite(t, rpms(t, data)...)))
		}
		return imagetest.File(base, string(rpmtest.Hash(binary.LittleEndian, rpms(t, data)...)))
	}
	return imagetest.File(name, string(data))
}

func property(data []byte, key string) string {
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return value
		}
	}
	return ""
}

func rpms(t *testing.T, data []byte) (out []rpmtest.Package) {
	t.Helper()
	vendor := ""
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if f[0] == "vendor" {
			vendor = strings.Join(f[1:], " ")
			continue
		}
		if len(f) < 5 {
			t.Fatalf("not a package: %s", line)
		}
		epoch, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		p := rpmtest.Package{Name: f[0], Epoch: uint32(epoch), Version: f[2], Release: f[3], Source: f[4], Arch: "x86_64", Vendor: vendor}
		if len(f) > 5 {
			p.Module, p.Files = f[5], f[6:]
		}
		out = append(out, p)
	}
	return out
}

// program is compiled of source against a module example.org/dep v1.2.3, from a
// module proxy that is a folder.
func program(t *testing.T, source []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "proxy", "example.org", "dep", "@v")
	mod := []byte("module example.org/dep\n\ngo 1.26\n")
	write(t, filepath.Join(at, "v1.2.3.info"), []byte(`{"Version":"v1.2.3","Time":"2024-01-01T00:00:00Z"}`))
	write(t, filepath.Join(at, "v1.2.3.mod"), mod)
	write(t, filepath.Join(at, "v1.2.3.zip"), zipped(t, map[string][]byte{
		"example.org/dep@v1.2.3/go.mod": mod, "example.org/dep@v1.2.3/dep.go": []byte("package dep\n\nvar Name = \"dep\"\n")}))
	write(t, filepath.Join(dir, "src", "go.mod"), []byte("module example.org/tool\n\ngo 1.26\n\nrequire example.org/dep v1.2.3\n"))
	write(t, filepath.Join(dir, "src", "main.go"), source)
	out := filepath.Join(dir, "tool")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-modcacherw", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, ".")
	cmd.Dir = filepath.Join(dir, "src")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off", "GOSUMDB=off", "GONOSUMDB=*",
		"GOPROXY=file://"+filepath.Join(dir, "proxy"), "GOMODCACHE="+filepath.Join(dir, "cache"))
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func zipped(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range files {
		out, err := w.Create(name)
		if err == nil {
			_, err = out.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
