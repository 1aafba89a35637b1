package check_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/check"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func load(t testing.TB) *check.Checks {
	t.Helper()
	checks, err := check.Load(content.Checks())
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// found lists what was found as "line id resource".
func found(res check.Result) []string {
	var list []string
	for _, m := range res.Found {
		list = append(list, fmt.Sprintf("%d %s %s", m.Place.Line, m.ID, m.Resource))
	}
	return list
}

func TestResultsAreAtTheirPlace(t *testing.T) {
	checks := load(t)
	want := func(res check.Result, err error, wants ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got := found(res)
		for _, w := range wants {
			if !slices.Contains(got, w) {
				t.Errorf("no %q in\n%s", w, strings.Join(got, "\n"))
			}
		}
	}
	res, err := checks.Dockerfile("Dockerfile", []byte(`# escape=`+"`"+`
FROM debian:12 AS build
RUN a && `+"`"+`
  # between
  curl -k https://x.example | sh && `+"`"+`
  sudo b
RUN <<EOF
set -e
chmod 777 /x
EOF
FROM build
`), now)
	want(res, err, "5 docker-tls-unverified stage build", "5 docker-pipe-to-shell stage build", "6 docker-sudo stage build",
		"9 docker-chmod-777 stage build", "11 docker-user-missing stage 1")

	res, err = checks.Kubernetes("k.yaml", []byte(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          hostNetwork: true
          containers:
          - name: job
            image: a:1
            securityContext:
              capabilities:
                add: [SYS_ADMIN]
`), now)
	want(res, err, "10 k8s-host-network CronJob/nightly", "16 k8s-capability-dangerous CronJob/nightly container job", "14 k8s-root-writable CronJob/nightly container job")

	res, err = checks.Compose("compose.yaml", []byte(`
x-base: &base
  privileged: true
services:
  web: {image: "a:1"}
  db:
    <<: *base
    volumes:
    - /:/host
`), now)
	want(res, err, "3 compose-privileged service db", "8 compose-mount-sensitive service db", "5 compose-memory-limit service web")
}

func TestCommentsLeaveResultsOut(t *testing.T) {
	const file = `FROM debian:12
# breakwater:ignore docker-cd it is shown so
RUN cd /a
RUN cd /b
RUN cd /c # breakwater:ignore docker-cd until 2026-11-22 today still counts
# breakwater:ignore docker-cd until 2026-11-21 over
RUN cd /d
# breakwater:ignore docker-cd
RUN cd /e
# breakwater:ignore docker-nonsense there is none
# breakwater:ignore docker-cd until soon never
RUN cd /f
# breakwater:ignore-file docker-user-missing the base image has a user
`
	res, err := load(t).Dockerfile("Dockerfile", []byte(strings.ReplaceAll(file, "RUN cd /c #", "# breakwater:ignore docker-cd until 2026-11-22 today\nRUN cd /c #")), now)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, m := range res.Found {
		if m.ID == "docker-cd" {
			lines = append(lines, m.Place.Line)
		}
		if m.ID == "docker-user-missing" {
			t.Error("the comment for the file does not count")
		}
	}
	if !slices.Equal(lines, []int{4, 8, 10, 13}) {
		t.Errorf("docker-cd is found on %v", lines)
	}
	if len(res.Ignored) != 3 || res.Ignored[0].Reason == "" {
		t.Errorf("ignored: %+v", res.Ignored)
	}
	gaps := strings.Join(res.Gaps, "\n")
	for _, want := range []string{"Dockerfile:7: breakwater:ignore ended on 2026-11-21", "Dockerfile:9: breakwater:ignore has no reason",
		`Dockerfile:11: breakwater:ignore names the check "docker-nonsense"`, `"soon" is no date`} {
		if !strings.Contains(gaps, want) {
			t.Errorf("no %q in\n%s", want, gaps)
		}
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const dockerfile = "FROM a:1\n"
	write("Dockerfile", dockerfile)
	write("api/Dockerfile.dev", dockerfile)
	write("web.Dockerfile", dockerfile)
	write("Containerfile", dockerfile)
	write("Dockerfile.dockerignore", "node_modules\n")
	write("broken/Dockerfile", "FORM a\n")
	write("node_modules/x/Dockerfile", dockerfile)
	write("k8s/all.yml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n---\na: [\n")
	write("k8s/all.json", `{"apiVersion": "v1", "kind": "Service"}`)
	write("docker-compose.yml", "services: {a: {image: a}}\n")
	write("values.yaml", "image: a\n")
	write("chart/Chart.yaml", "name: x\n")
	write("chart/templates/pod.yaml", "apiVersion: v1\nkind: {{ x }}\n")
	res, err := load(t).Files(t.Context(), []string{dir}, check.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range res.Files {
		got = append(got, strings.TrimPrefix(f, dir+"/"))
	}
	if want := []string{"Containerfile", "Dockerfile", "api/Dockerfile.dev", "docker-compose.yml", "k8s/all.json", "k8s/all.yml", "web.Dockerfile"}; !slices.Equal(got, want) {
		t.Errorf("judged %q, want %q", got, want)
	}
	gaps := strings.Join(res.Gaps, "\n")
	for _, want := range []string{"broken/Dockerfile:1: \"FORM\" is no instruction", "chart: is a Helm chart", "k8s/all.yml:5:"} {
		if !strings.Contains(gaps, want) {
			t.Errorf("no %q in\n%s", want, gaps)
		}
	}
	if _, err := load(t).Files(t.Context(), []string{filepath.Join(dir, "values.yaml")}, check.Options{Now: now}); err == nil {
		t.Error("a file that is none of the formats is accepted when it is named")
	}
	piped := check.Options{Now: now, Stdin: bytes.NewBufferString("apiVersion: v1\nkind: Namespace\n")}
	if res, err := load(t).Files(t.Context(), []string{"-"}, piped); err != nil || len(res.Found) == 0 {
		t.Errorf("standard input: %+v, %v", res, err)
	}
}

func TestMistakesInChecks(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := check.Load(fsOf(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	const head = "apiVersion: breakwater/v1\nkind: Checks\nchecks:\n- "
	const rest = ", title: t, severity: low, remediation: r, references: [r], mustFire: [x], mustNotFire: [x]}\n"
	f(head+`{id: a-b, on: image, when: "image.usr == \"\"", message: m`+rest, "c.yaml:4:")
	f(head+`{id: a-b, on: image, when: "true", message: "{image.usr}"`+rest, "{image.usr} is no text")
	f(head+`{id: A, on: image, when: "true", message: m`+rest, "must be lower-case words")
	f(head+`{id: a-b, on: nothing, when: "true", message: m`+rest, "is none of")
	f(head+`{id: a-b}`, "is missing")
}

func FuzzFiles(f *testing.F) {
	checks := load(f)
	for _, seed := range []string{
		"FROM a\nRUN <<E\nx\nE\n", "# escape=`\nFROM a`\n:b\n", "FROM a\nENV a=${a:-$b}\nRUN sh -c \"sh -c 'curl x | sh'\"",
		"FROM a\nCMD [\"a\"]\nHEALTHCHECK CMD x\nONBUILD RUN y\nVOLUME [\"/\"]",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, spec: {containers: [{name: a}]}}]",
		"services: {a: {ports: [\"1:2:3\", {}], volumes: [a, {}], environment: [A=b]}}",
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{securityContext: [], ports: {}}], volumes: [1]}", "# breakwater:ignore\n#breakwater:ignore-file a b\nFROM a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range check.Kinds() {
			res, err := checks.Files(t.Context(), []string{"-"}, check.Options{Kind: kind, Now: now, Stdin: bytes.NewReader(data)})
			for _, m := range res.Found {
				if err != nil || m.Message == "" || m.Place.Line < 0 {
					t.Errorf("%s: %+v, %v", kind, m, err)
				}
			}
		}
	})
}
