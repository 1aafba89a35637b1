package compose_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/check/compose"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// read reads the one project of a text.
func read(t *testing.T, text string) *compose.Project {
	t.Helper()
	docs, err := document.ParseForeign("compose.yaml", []byte(text))
	if err != nil || len(docs) != 1 || !compose.IsProject(docs[0]) {
		t.Fatalf("%d documents, %v:\n%s", len(docs), err, text)
	}
	return compose.Read(docs[0])
}

// TestShortAndLongFormsAreTheSame, as the specification says they are.
func TestShortAndLongFormsAreTheSame(t *testing.T) {
	short := `
services:
  web:
    build: .
    entrypoint: /app --serve
    environment: ["A=1", "B=x=y", C]
    env_file: web.env
    labels: ["a=b"]
    cap_add: [net_admin, CAP_SYS_TIME]
    security_opt: ["seccomp:unconfined", "no-new-privileges=true"]
    devices: ["/dev/fuse:/dev/f:rwm"]
    ports: ["127.0.0.1:8080:80/tcp", "[::1]:9090:90", "70:7", "6"]
    volumes: ["/etc/../var/run:/r:ro,rshared", "data:/d", "./src:/s", "$HOME/x:/h", "/anonymous"]
    sysctls: ["net.b=1", "net.a=2"]
    mem_limit: 1g
    networks: [front]
`
	long := `
services:
  web:
    build: {context: .}
    entrypoint: ["/app", "--serve"]
    environment: {A: 1, B: x=y, C: }
    env_file: [{path: web.env}]
    labels: {a: b}
    cap_add: [NET_ADMIN, SYS_TIME]
    security_opt: ["seccomp=unconfined", "no-new-privileges:true"]
    devices: [{source: /dev/fuse, target: /dev/f}]
    ports:
    - {host_ip: 127.0.0.1, published: 8080, target: 80, protocol: tcp}
    - {host_ip: "::1", published: "9090", target: 90}
    - {published: 70, target: 7}
    - {target: 6}
    volumes:
    - {type: bind, source: /var/run, target: /r, read_only: true, bind: {propagation: rshared}}
    - {type: volume, source: data, target: /d}
    - {type: bind, source: ./src, target: /s}
    - {type: bind, source: $HOME/x, target: /h}
    - {type: volume, target: /anonymous}
    sysctls: {net.a: 2, net.b: 1}
    deploy: {resources: {limits: {memory: 1g}}}
    networks: {front: {}}
`
	var forms [2]string
	for i, text := range []string{short, long} {
		text, err := json.MarshalIndent(read(t, text).Services[0], "", " ")
		if err != nil {
			t.Fatal(err)
		}
		forms[i] = string(text)
	}
	if forms[0] != forms[1] {
		t.Errorf("short:\n%s\nlong:\n%s", forms[0], forms[1])
	}
	if !strings.Contains(forms[0], `"source": "/var/run"`) {
		t.Errorf("the bind is not cleaned: %s", forms[0])
	}
}

func TestDefaultsOfVariables(t *testing.T) {
	for image, want := range map[string]string{
		"app:${TAG:-1.2}": "app 1.2 ", "${REGISTRY-r.test:5000}/app": "r.test:5000/app  ", "app:${TAG}": "app ${TAG} ",
		"app@sha256:abc": "app  sha256:abc", "r.test:5000/app:1@sha256:abc": "r.test:5000/app 1 sha256:abc", "app:${TAG": "app ${TAG ", "": "  ",
	} {
		s := read(t, fmt.Sprintf("services: {a: {image: %q}}", image)).Services[0]
		if got := fmt.Sprintf("%s %s %s", s.Repository, s.Tag, s.Digest); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

func TestWhatIsNoProject(t *testing.T) {
	for _, text := range []string{"a: b", "services: [a]", "services: {a: {}}\napiVersion: v1", "- services", "x", "services: x"} {
		docs, err := document.ParseForeign("x", []byte(text))
		if err != nil || len(docs) != 1 {
			t.Fatal(err)
		}
		if compose.IsProject(docs[0]) {
			t.Errorf("%q counts as a project", text)
		}
	}
}

// TestManyServices: the same file read twice is the same, and a file of more
// services than anybody has ends.
func TestManyServices(t *testing.T) {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range 3_000 {
		fmt.Fprintf(&b, "  s%d: {image: a, sysctls: {z: 1, y: 2, x: 3, w: 4}}\n", i)
	}
	first, second := read(t, b.String()), read(t, b.String())
	if n := len(first.Services); n == 0 || n > 2_000 {
		t.Errorf("%d services", n)
	}
	for i, s := range first.Services {
		if !slices.Equal(s.Sysctls, second.Services[i].Sysctls) {
			t.Fatalf("%q, then %q", s.Sysctls, second.Services[i].Sysctls)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"services: {a: {ports: [\"1:2:3\", {}], volumes: [a, {}, \"a:b:c:d\"], environment: [A=b, 1, [], {}]}}", "services:\n  a: &x {image: \"b:${c:-d}@e\"}\n  b:\n    <<: *x\n    build: {args: [A]}",
		"services: {a: , b: 1, c: [], d: {healthcheck: {disable: true}, env_file: [{path: x}, y], devices: [{}, \":\"], security_opt: \"a:b\"}}\nsecrets: {a: {file: b}, c: , d: []}\ninclude: x\nname: [a]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, _ := document.ParseForeign("f", data) // those that are right are there all the same
		for _, doc := range docs {
			if !compose.IsProject(doc) {
				continue
			}
			p := compose.Read(doc)
			if len(p.Services) > 2_000 {
				t.Errorf("%d services", len(p.Services))
			}
			for _, s := range p.Services {
				if s.Node == nil {
					t.Errorf("%+v has no place", s)
				}
				whole := s.Repository
				if s.Tag != "" || strings.HasPrefix(strings.TrimPrefix(s.Image, s.Repository), ":") {
					whole += ":" + s.Tag
				}
				if s.Digest != "" || strings.Contains(s.Image, "@") {
					whole += "@" + s.Digest
				}
				if whole != s.Image {
					t.Errorf("%q is taken apart into %q, %q, %q", s.Image, s.Repository, s.Tag, s.Digest)
				}
				for _, m := range s.Mounts {
					if strings.HasPrefix(m.Source, "/") && strings.Contains(m.Source, "/../") {
						t.Errorf("%+v is not cleaned", m)
					}
				}
			}
		}
	})
}
