package document_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/document"
)

func TestForeignFilesMayHaveWhatOursMayNot(t *testing.T) {
	const file = `
x-base: &base
  image: nginx
  deploy: {replicas: 2}
services:
  web:
    <<: *base
    image: nginx:1.27
    image: nginx:1.28
  other: *base
  two: {<<: [*base, {a: b}]}
  tagged: !reset []
  mode: !!str 0644
---
- not: a map
---
b: [
`
	docs, err := document.ParseForeign("c.yaml", []byte(file))
	if err == nil || !strings.Contains(err.Error(), "c.yaml:17:") {
		t.Errorf("the broken document is not told of: %v", err)
	}
	if len(docs) != 2 {
		t.Fatalf("%d documents: %v", len(docs), err)
	}
	services := docs[0].Field("services")
	f := func(want string, path ...string) {
		t.Helper()
		if got := services.Field(path...).Scalar(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	f("nginx:1.28", "web", "image")
	f("2", "web", "deploy", "replicas")
	f("nginx", "other", "image")
	f("b", "two", "a")
	f("nginx", "two", "image")
	f("0644", "mode")
	if line := docs[0].LineOf("services", "web", "image"); line != 9 {
		t.Errorf("image is on line %d", line)
	}
	if line := docs[0].LineOf("services", "web", "ports", "none"); line != 6 {
		t.Errorf("an absent field is told at line %d", line)
	}
}

func TestForeignFilesAreBounded(t *testing.T) {
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		n, m := string(rune('0'+i)), string(rune('1'+i))
		laughs += "a" + m + ": &a" + m + " [*a" + n + strings.Repeat(", *a"+n, 9) + "]\n"
	}
	for name, file := range map[string]string{
		"laughs": laughs, "self": "a: &a [*a]\n", "nowhere": "a: *b\n",
		"deep": strings.Repeat("[", 200) + strings.Repeat("]", 200), "long": strings.Repeat("a", document.MaxForeignBytes+1),
	} {
		if _, err := document.ParseForeign("f.yaml", []byte(file)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseForeign(f *testing.F) {
	for _, seed := range []string{"a: &a {b: *a}", "<<: [{a: b}]\nc: d", "a: !x y", "a: 1\na: 2", "a: &a\n<<: *a\n", "? [a]\n: b"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, _ := document.ParseForeign("f.yaml", data)
		for _, d := range docs {
			_ = d.Field("a", "b").Scalars()
			_ = d.Field("a").Texts()
		}
	})
}
