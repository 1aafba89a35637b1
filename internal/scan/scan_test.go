package scan_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
	"github.com/breakwater-sec/breakwater/internal/vex"
)

func TestMain(m *testing.M) {
	if scan.IsReader(os.Args) {
		os.Exit(scan.Reader(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

const (
	osRelease = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"
	status1   = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9\n\n"
	status2   = status1 + "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7.88.1-10\n\n"
	lodash    = `{"name":"lodash","version":"4.17.15"}`
)

func sample(t testing.TB) imagetest.Image {
	return imagetest.Image{
		Tags: []string{"app:1"},
		Layers: [][]byte{
			imagetest.Tar(t, imagetest.File("etc/os-release", osRelease), imagetest.File("var/lib/dpkg/status", status1)),
			imagetest.Tar(t, imagetest.File("var/lib/dpkg/status", status2), imagetest.File("app/node_modules/lodash/package.json", lodash), imagetest.File("app/node_modules/mocha/package.json", `{"name":"mocha","version":"6.2.0"}`)),
			imagetest.Tar(t, imagetest.File("app/node_modules/.wh.mocha", "")),
		},
	}
}

func archive(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArchive(t *testing.T) {
	for _, form := range imagetest.Forms() {
		t.Run(form.String(), func(t *testing.T) {
			sample := sample(t)
			var last image.Progress
			rep, err := scan.Image(t.Context(), scan.Options{
				Target: "docker-archive:" + archive(t, sample.Archive(t, form)), Tool: "breakwater test",
				Progress: func(p image.Progress) { last = p },
			})
			if err != nil {
				t.Fatal(err)
			}
			checkSample(t, sample, rep)
			if last.Layers != 3 || last.Bytes == 0 {
				t.Errorf("progress ended at %+v", last)
			}
		})
	}
}

func checkSample(t *testing.T, sample imagetest.Image, rep *report.Report) {
	t.Helper()
	var got []string
	for _, p := range rep.Packages {
		got = append(got, fmt.Sprintf("%s %s %s %d %s", p.Ecosystem, p.Name, p.Version, p.LayerIndex, p.Step))
		if p.Layer != rep.Layers[p.LayerIndex].DiffID || p.Path == "" {
			t.Errorf("%+v", p)
		}
	}
	want := []string{"Debian:12 curl 7.88.1-10 1 STEP 1", "Debian:12 libc6 2.36-9 0 STEP 0", "npm lodash 4.17.15 1 STEP 1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if rep.Image.Digest != "sha256:"+imagetest.Digest(sample.ConfigJSON(t)) || rep.Distro.ID != "debian" || rep.Config.User != "10001" {
		t.Errorf("got %+v", rep)
	}
	if len(rep.Gaps) != 1 || !strings.Contains(rep.Gaps[0], "3 packages were not judged") {
		t.Errorf("gaps %q", rep.Gaps)
	}
	for _, n := range rep.Notes { // a build with cgo cannot use Landlock on older kernels, and says so
		if !strings.Contains(n, "Landlock") {
			t.Errorf("note: %s", n)
		}
	}
}

// known is a matcher and a judge.
type known struct{ facts policy.ImageFacts }

func (k *known) Match(_ context.Context, d report.Distro, packages []event.Package) ([]event.Finding, *report.Intelligence, []string, error) {
	return []event.Finding{{ID: "CVE-2020-8203", Severity: event.SeverityHigh, Package: packages[len(packages)-1], FixedVersion: "4.17.19"}},
		&report.Intelligence{Version: "1"}, []string{"npm: nothing newer than last year in " + d.ID}, nil
}

func (k *known) Image(_ time.Time, f policy.ImageFacts) event.Verdict {
	k.facts = f
	return event.Verdict{Allowed: false, Policies: []string{"p"}}
}

func TestMatcherAndJudge(t *testing.T) {
	k := &known{}
	rep, err := scan.Image(t.Context(), scan.Options{Target: archive(t, sample(t).Archive(t, imagetest.Old)), Matcher: k, Judge: k, Stage: "production"})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Findings) != 1 || rep.Verdict.Allowed || rep.Intelligence == nil || !slices.Contains(rep.Gaps, "npm: nothing newer than last year in debian") {
		t.Errorf("got %+v", rep)
	}
	if f := k.facts; !f.Scanned || !f.Judged || f.Stage != "production" || f.Config.User != "10001" || len(f.Packages) != 3 || f.Image.Digest != rep.Image.Digest {
		t.Errorf("facts %+v", f)
	}
}

// TestStatementsOnADigestNeedTheDigest: an archive that claims another image's
// digest does not inherit what was stated on that one.
func TestStatementsOnADigestNeedTheDigest(t *testing.T) {
	claimed := "registry.example/app@sha256:" + strings.Repeat("a", 64)
	i := sample(t)
	i.Tags = []string{claimed}
	var statements vex.Set
	notes, err := statements.Add("x.json", []byte(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-01-01T00:00:00Z","version":1,
		"statements":[{"vulnerability":{"name":"CVE-2020-8203"},"products":[{"@id":"`+claimed+`"}],"status":"not_affected","justification":"component_not_present"}]}`))
	if err != nil || len(notes) > 0 || statements.Len() != 1 {
		t.Fatal(notes, err)
	}
	rep := mustScan(t, scan.Options{Target: archive(t, i.Archive(t, imagetest.Old)), Matcher: &known{}, VEX: &statements})
	if len(rep.Findings) != 1 || len(rep.Excluded) != 0 {
		t.Errorf("findings %+v, excluded %+v", rep.Findings, rep.Excluded)
	}
}

func TestErrorsNameThingReasonAndWayOut(t *testing.T) {
	good := sample(t).Archive(t, imagetest.Old)
	folder := t.TempDir()
	for target, want := range map[string]string{
		"":                         "no target",
		"docker-archive:":          "nothing after the colon",
		"docker-archive:/no/where": `archive "/no/where": no such file`,
		"docker-archive:" + folder: "docker save",
		"docker-archive:" + archive(t, good[:3000]):      "truncated",
		"docker-archive:" + archive(t, []byte("no tar")): "not a",
		"docker-archive:" + archive(t, good) + ":b:2":    `no image "b:2", only app:1`,
		"oci-layout:" + folder:                           "holds no index.json",
		"docker:nginx:1.99":                              `image "nginx:1.99": docker (unix:///nonexistent.sock) does not answer; start the engine`,
	} {
		_, err := scan.Image(t.Context(), scan.Options{Target: target, Engine: "unix:///nonexistent.sock"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", target, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: not one clean line: %q", target, err)
		}
	}
	if _, err := scan.Image(t.Context(), scan.Options{Target: "a", Engine: "tcp://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "not a unix socket") {
		t.Errorf("tcp: %v", err)
	}
}

func TestTimeLimit(t *testing.T) {
	_, err := scan.Image(t.Context(), scan.Options{Target: archive(t, sample(t).Archive(t, imagetest.Old)), Timeout: time.Nanosecond})
	if err == nil || !strings.Contains(err.Error(), "time limit") {
		t.Errorf("got %v", err)
	}
}

// TestTenGigabytesOfZeros: a small layer with a file of 10 GB is read past, in
// the child, without taking memory.
func TestTenGigabytesOfZeros(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: reads 10 GB of zeros")
	}
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "app/node_modules/big/package.json", Size: 10 << 30, Mode: 0o644, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	// The header, then a gigabyte of zeros ten times: compressed frames may
	// follow one another.
	layer := bytes.NewBuffer(imagetest.Compress(t, head.Bytes(), imagetest.OCIZstd))
	zeros := imagetest.Compress(t, make([]byte, 1<<30), imagetest.OCIZstd)
	for range 10 {
		layer.Write(zeros)
	}
	config := `{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["sha256:unknown"]}}`
	data := imagetest.Tar(t, imagetest.File("l.tar", layer.String()), imagetest.File("c.json", config), imagetest.File("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`))
	rep, err := scan.Image(t.Context(), scan.Options{Target: archive(t, data)})
	if err != nil || len(data) > 2<<20 {
		t.Fatalf("archive of %d KB: %v", len(data)>>10, err)
	}
	if rep.Layers[0].Size <= 10<<30 || len(rep.Gaps) != 1 || !strings.Contains(rep.Gaps[0], "big/package.json: too large") {
		t.Errorf("got %+v, gaps %q", rep.Layers, rep.Gaps)
	}
}

func TestForgedLayerIsRefusedOnDemand(t *testing.T) {
	good := sample(t)
	data := good.Archive(t, imagetest.Old)
	forged := archive(t, bytes.ReplaceAll(data, []byte("4.17.15"), []byte("4.17.21")))
	if rep, err := scan.Image(t.Context(), scan.Options{Target: forged}); err != nil || rep.Integrity != "" {
		t.Errorf("without Verify: %v", err)
	}
	if _, err := scan.Image(t.Context(), scan.Options{Target: forged, Verify: true}); err == nil || !strings.Contains(err.Error(), "damaged or forged") {
		t.Errorf("with Verify: %v", err)
	}
	if rep, err := scan.Image(t.Context(), scan.Options{Target: archive(t, data), Verify: true}); err != nil || rep.Integrity != report.Hashed {
		t.Errorf("a good one with Verify: %v", err)
	}
}

func TestHostileNamesStayInTheirPlace(t *testing.T) {
	evil := "Package: evil\nStatus: install ok installed\nVersion: 1\n\n"
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("var/lib/dpkg/status.d/\x1b[31m\u202e\xff", evil))}}
	rep, err := scan.Image(t.Context(), scan.Options{Target: archive(t, i.Archive(t, imagetest.Old))})
	if err != nil || len(rep.Packages) != 1 {
		t.Fatalf("%v", err)
	}
	var out bytes.Buffer
	if err := report.Table(&out, rep, report.Look{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e") || !strings.Contains(out.String(), "evil") {
		t.Errorf("table: %q", out.String())
	}
	out.Reset()
	if err := report.JSON(&out, rep); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("json: %v", err)
	}
}

// TestAnApprovedDigestNeedsItsLayers: an archive whose configuration is that of
// an approved image, and whose layers are others, does not pass.
func TestAnApprovedDigestNeedsItsLayers(t *testing.T) {
	good := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("etc/motd", "good"))}}
	first := mustScan(t, scan.Options{Target: archive(t, good.Archive(t, imagetest.Old))})
	policies, err := policy.Parse("p.yaml", []byte("apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: p}\nimage: {approved: [\""+first.Image.Digest+"\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet(0, policies)
	if err != nil {
		t.Fatal(err)
	}
	forged := good
	forged.Config = func(c map[string]any) {
		c["rootfs"] = map[string]any{"type": "layers", "diff_ids": []string{first.Layers[0].DiffID}}
	}
	forged.Layers = [][]byte{imagetest.Tar(t, imagetest.File("etc/motd", "evil"))}
	forgery := archive(t, forged.Archive(t, imagetest.Old))
	if rep := mustScan(t, scan.Options{Target: forgery, Judge: set}); rep.Image.Digest != first.Image.Digest || rep.Verdict.Allowed || !strings.Contains(rep.Verdict.Violations[0].Message, "were not hashed") {
		t.Errorf("a forged archive: %s, approved is %s: %+v", rep.Image.Digest, first.Image.Digest, rep.Verdict)
	}
	if rep, err := scan.Image(t.Context(), scan.Options{Target: forgery, Judge: set, Verify: true}); err == nil {
		t.Errorf("a forged archive, hashed: %+v", rep.Verdict)
	}
	genuine := archive(t, good.Archive(t, imagetest.Old))
	if rep := mustScan(t, scan.Options{Target: genuine, Judge: set, Verify: true}); !rep.Verdict.Allowed {
		t.Errorf("the approved image, hashed: %+v", rep.Verdict)
	}
}
