package scan_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func mustScan(t *testing.T, o scan.Options) *report.Report {
	t.Helper()
	rep, err := scan.Image(t.Context(), o)
	if err != nil {
		t.Fatalf("%s: %v", o.Target, err)
	}
	return rep
}

func TestLayoutsAndTheirArchives(t *testing.T) {
	for _, form := range []imagetest.Form{imagetest.OCI, imagetest.OCIGzip, imagetest.OCIZstd} {
		t.Run(form.String(), func(t *testing.T) {
			sample := sample(t)
			files := sample.Layout(t, form)
			folder := imagetest.Write(t, t.TempDir(), files)
			rep := mustScan(t, scan.Options{Target: "oci-layout:" + folder})
			checkSample(t, sample, rep)
			if rep.Integrity != report.Hashed {
				t.Errorf("integrity %q", rep.Integrity)
			}
			checkSample(t, sample, mustScan(t, scan.Options{Target: "oci-layout:" + folder + ":app:1"}))
			file := archive(t, imagetest.Pack(t, files))
			checkSample(t, sample, mustScan(t, scan.Options{Target: "oci-archive:" + file}))
			checkSample(t, sample, mustScan(t, scan.Options{Target: "oci-archive:" + file + ":app:1"}))
		})
	}
}

func TestPlatformsOfAnIndex(t *testing.T) {
	one, other := sample(t), sample(t)
	other.Layers = other.Layers[:1]
	other.Config = func(c map[string]any) { c["architecture"] = "arm64" }
	m1, b1 := one.OCIManifest(t, imagetest.OCIGzip)
	m2, b2 := other.OCIManifest(t, imagetest.OCIGzip)
	attestation := m2.WithPlatform("unknown", "unknown", "")
	index := imagetest.Index(t, m1.WithPlatform("linux", "amd64", ""), m2.WithPlatform("linux", "arm64", "v8"), attestation)
	all := append(append(b1, b2...), m1, m2)
	for name, files := range map[string]map[string][]byte{
		"at the root": imagetest.LayoutFiles(index, all...),
		"nested":      imagetest.LayoutFiles(imagetest.Index(t, index.WithName("app:1")), append(all, index)...),
	} {
		folder := imagetest.Write(t, t.TempDir(), files)
		file := archive(t, imagetest.Pack(t, files))
		for _, target := range []string{"oci-layout:" + folder, "oci-archive:" + file} {
			checkSample(t, one, mustScan(t, scan.Options{Target: target, Platform: "linux/amd64"}))
			if rep := mustScan(t, scan.Options{Target: target, Platform: "linux/arm64"}); rep.Image.Platform != "linux/arm64" || len(rep.Layers) != 1 {
				t.Errorf("%s, %s: got %+v", name, target, rep.Image)
			}
			_, err := scan.Image(t.Context(), scan.Options{Target: target, Platform: "linux/s390x"})
			if err == nil || !strings.Contains(err.Error(), "is not there for linux/s390x, only for linux/amd64, linux/arm64") {
				t.Errorf("%s, %s: %v", name, target, err)
			}
		}
	}
}

func TestFolder(t *testing.T) {
	root := imagetest.Write(t, t.TempDir(), map[string][]byte{
		"etc/os-release": []byte(osRelease), "var/lib/dpkg/status": []byte(status2),
		"app/node_modules/lodash/package.json": []byte(lodash),
	})
	// What leads out of the folder, or is no file, is not read.
	outside := filepath.Join(t.TempDir(), "package.json")
	if err := os.WriteFile(outside, []byte(`{"name":"outside","version":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"app/node_modules/evil", "app/node_modules/pipe"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"app/node_modules/evil/package.json": outside, "app/node_modules/dir": filepath.Dir(outside), "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfifo", filepath.Join(root, "app/node_modules/pipe/package.json")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	rep := mustScan(t, scan.Options{Target: "dir:" + root})
	if len(rep.Misconfigurations) > 0 {
		t.Errorf("a folder has no configuration to be wrong: %+v", rep.Misconfigurations)
	}
	want := []string{"curl 7.88.1-10 ", "libc6 2.36-9 ", "lodash 4.17.15 "}
	if got := found(rep); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.ContainsFunc(rep.Gaps, func(g string) bool { return strings.Contains(g, "symbolic link") }) {
		t.Errorf("gaps %q", rep.Gaps)
	}
	for target, want := range map[string]string{"dir:/no/where": `folder "/no/where": no such file`, "dir:" + outside: "is not a folder"} {
		if _, err := scan.Image(t.Context(), scan.Options{Target: target}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// comparable is what must not depend on the source.
func comparable(rep *report.Report) []string {
	var out []string
	for _, p := range rep.Packages {
		out = append(out, fmt.Sprintf("%s %s layer %d %s at %s", p.PURL, p.Version, p.LayerIndex, p.Layer, p.Path))
	}
	return append(out, rep.Image.Digest, rep.Image.Platform, fmt.Sprint(rep.Distro), fmt.Sprint(rep.Config))
}

// sameNames compares the packages alone.
func sameNames(rep *report.Report, want []string) bool {
	return slices.EqualFunc(rep.Packages, want[:len(rep.Packages)], func(p event.Package, w string) bool { return strings.HasPrefix(w, p.PURL+" "+p.Version) })
}

// TestAllSourcesAgree: one image that a real engine built, read everywhere.
func TestAllSourcesAgree(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.NeedDocker(t)
	registry := testenv.NewRegistry(t)
	const name = "bw-sources-test:1"
	buildImage(t, d, name)
	engine := "unix://" + d.Socket
	want := comparable(mustScan(t, scan.Options{Target: "docker:" + name, Engine: engine}))
	agree := func(o scan.Options) *report.Report {
		t.Helper()
		rep := mustScan(t, o)
		if got := comparable(rep); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%s\ninstead of\n%s", o.Target, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return rep
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	d.MustRun(t, "save", "-o", file, name)
	agree(scan.Options{Target: "docker-archive:" + file})

	// A folder that overlayfs was told to look for elsewhere: the engine exports.
	top := d.MustRun(t, "image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", name)
	if err := unix.Setxattr(top, "trusted.overlay.redirect", []byte("/elsewhere"), 0); err != nil {
		t.Fatal(err)
	}
	agree(scan.Options{Target: "docker:" + name, Engine: engine})
	if err := unix.Removexattr(top, "trusted.overlay.redirect"); err != nil {
		t.Fatal(err)
	}

	remote := registry.Host + "/team/app:1"
	d.MustRun(t, "login", "-u", registry.User, "-p", registry.Password, registry.Host)
	d.MustRun(t, "tag", name, remote)
	d.MustRun(t, "push", remote)
	ann := image.NewRegistry(image.RegistryOptions{Username: registry.User, Password: registry.Password, CA: registry.Authority.PEM})
	if rep := agree(scan.Options{Target: "registry:" + remote, Registry: ann}); rep.Integrity != report.Hashed || len(rep.Image.References) != 2 {
		t.Errorf("from the registry: %+v, integrity %q", rep.Image, rep.Integrity)
	}
	// A name that no engine has is asked of its registry.
	d.MustRun(t, "rmi", remote)
	agree(scan.Options{Target: remote, Engine: engine, Containerd: "unix:///none", Storage: "/none", Registry: ann})
	registryRefusals(t, registry, remote)

	t.Run("containerd", func(t *testing.T) {
		socket := filepath.Join(d.Dir, "containerd.sock")
		d.Ctr(t, "images", "import", file)
		rep := agree(scan.Options{Target: "containerd:" + name, Containerd: "unix://" + socket})
		if rep.Integrity != report.FromEngine {
			t.Errorf("not read in place: integrity %q", rep.Integrity)
		}
		// Never unpacked: its blobs are read, and hashed.
		d.Ctr(t, "images", "rm", "--sync", "docker.io/library/"+name)
		d.Ctr(t, "images", "import", "--no-unpack", file)
		if rep := agree(scan.Options{Target: "containerd:" + name, Containerd: "unix://" + socket}); rep.Integrity != report.Hashed {
			t.Errorf("not read from the content store: integrity %q", rep.Integrity)
		}
		_, err := scan.Image(t.Context(), scan.Options{Target: "containerd:nobody:1", Containerd: "unix://" + socket})
		if err == nil || !strings.Contains(err.Error(), `image "nobody:1": not found in containerd (unix://`) {
			t.Errorf("unknown image: %v", err)
		}
		if left := d.Ctr(t, "leases", "ls", "-q") + d.Ctr(t, "snapshots", "ls"); strings.Contains(left, "breakwater") {
			t.Errorf("left behind: %s", left)
		}
	})
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run("podman "+driver, func(t *testing.T) {
			podman := testenv.NewPodman(t, driver)
			podman.Run(t, "load", "-i", file)
			root := podman.Root
			for _, spelling := range []string{name, "localhost/" + name} {
				if driver == "overlay" {
					agree(scan.Options{Target: "podman:" + spelling, Storage: root})
				} else if rep := mustScan(t, scan.Options{Target: "podman:" + spelling, Storage: root}); !sameNames(rep, want) || rep.Integrity != "" {
					t.Errorf("vfs: %q", found(rep))
				}
			}
			_, err := scan.Image(t.Context(), scan.Options{Target: "podman:nobody:1", Storage: root})
			if err == nil || !strings.Contains(err.Error(), "not found in Podman's storage") {
				t.Errorf("unknown image: %v", err)
			}
		})
	}
}

func registryRefusals(t *testing.T, registry *testenv.Registry, remote string) {
	t.Helper()
	for name, c := range map[string]struct {
		o    image.RegistryOptions
		ref  string
		want string
	}{
		"unknown authority": {image.RegistryOptions{}, remote, "--registry-ca"},
		"no login":          {image.RegistryOptions{CA: registry.Authority.PEM}, remote, "docker login " + registry.Host},
		"wrong password":    {image.RegistryOptions{CA: registry.Authority.PEM, Username: "ann", Password: "wrong"}, remote, "refuses access"},
		"unknown image":     {image.RegistryOptions{CA: registry.Authority.PEM, Username: registry.User, Password: registry.Password}, remote + "2", "not found in registry " + registry.Host + ": manifest unknown"},
	} {
		_, err := scan.Image(t.Context(), scan.Options{Target: "registry:" + c.ref, Registry: image.NewRegistry(c.o)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong") && name == "wrong password" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNameThatNobodyHas says everywhere it was looked for.
func TestNameThatNobodyHas(t *testing.T) {
	_, err := scan.Image(t.Context(), scan.Options{Target: "127.0.0.1:1/app:1", Engine: "unix:///nonexistent.sock", Containerd: "unix:///none", Storage: t.TempDir()})
	for _, want := range []string{`image "127.0.0.1:1/app:1": docker (unix:///nonexistent.sock) does not answer`, "; not found in Podman's storage (", "; registry 127.0.0.1:1: ", "connection refused"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
}

// TestManySmallLayers: a layer that is hashed before it is handed over is handed
// over all the same.
func TestManySmallLayers(t *testing.T) {
	var i imagetest.Image
	for n := range 100 {
		i.Layers = append(i.Layers, imagetest.Tar(t, imagetest.File(fmt.Sprint("f", n), "x")))
	}
	target := "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCI))
	for range 5 {
		if rep := mustScan(t, scan.Options{Target: target}); len(rep.Layers) != len(i.Layers) || len(rep.Gaps) > 1 {
			t.Fatalf("%d layers, gaps %q", len(rep.Layers), rep.Gaps)
		}
	}
}
