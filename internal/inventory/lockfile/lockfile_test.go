package lockfile_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
)

func TestTables(t *testing.T) {
	const text = `# written by a tool
version = 4
top = { a = 1 }

[[package]]
name = "a"
version = '1.0' # stable
source = { registry = "https://example.org", name = "x" }
dependencies = [
    { name = "no", version = "9" },
    "name = \"[\"",
]
text = """
name = "no"
"""

[package.source]
name = "inner"
"quoted key" = "v"
[metadata]
`
	var got []string
	for table := range lockfile.Tables([]byte(text)) {
		got = append(got, fmt.Sprintf("%s|%s|%s|%s", table.Name, table.Values["name"], table.Values["version"], table.Values["quoted key"]))
		if source := table.Values["source"]; source != "" && (lockfile.Inline(source, "registry") != "https://example.org" || lockfile.Inline(source, "gist") != "") {
			t.Errorf("inline table %q", source)
		}
	}
	want := []string{"||4|", "package|a|1.0|", "package.source|inner||v", "metadata|||"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOutline(t *testing.T) {
	const text = "# c\n'a: b':\n  \"c\": d # e\n  text: |\n    x: y\n\n  list:\n  - one\n  - k: v\n    w: \"z: #\"\n- - deep: 1\nkey:\r\n"
	want := []lockfile.Line{
		{Key: "a: b"}, {Indent: 2, Key: "c", Value: "d"}, {Indent: 2, Key: "text"}, {Indent: 2, Key: "list"},
		{Indent: 4, Item: true, Value: "one"}, {Indent: 4, Item: true, Key: "k", Value: "v"}, {Indent: 4, Key: "w", Value: "z: #"},
		{Indent: 4, Item: true, Key: "deep", Value: "1"}, {Key: "key"},
	}
	if got := slices.Collect(lockfile.Outline([]byte(text))); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNoise(t *testing.T) {
	for path, want := range map[string]bool{
		"app/package-lock.json": false, "package-lock.json": false, "srv/latest/yarn.lock": false,
		"app/node_modules/a/yarn.lock": true, "usr/share/doc/x/Cargo.lock": true, "go/pkg/mod/example.org/go.mod": true,
		"app/pkg/model/go.mod": false, "usr/lib/python3/dist-packages/x/requirements.txt": true, "app/tests/poetry.lock": true,
	} {
		if lockfile.Noise(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

func TestLockedOnce(t *testing.T) {
	got := lockfile.Locked([]event.Package{{Name: "b", PURL: "2"}, {}, {Name: "a", PURL: "1"}, {Name: "b", PURL: "2"}})
	if len(got) != 2 || got[0].Name != "a" || !got[0].Locked {
		t.Errorf("%+v", got)
	}
}

func FuzzReaders(f *testing.F) {
	f.Add([]byte("[[package]]\nname = \"a\"\nx = [\n]\n"))
	f.Add([]byte("a:\n  - b: |\n     c\n  'd': e"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for table := range lockfile.Tables(data) {
			for _, v := range table.Values {
				lockfile.Inline(v, "a")
			}
		}
		for range lockfile.Outline(data) {
		}
	})
}
