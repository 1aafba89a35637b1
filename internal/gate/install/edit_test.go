package install_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/gate/install"
)

func TestAddAndRemove(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"nothing", "", "{\n  \"authorization-plugins\": [\"gate\"]\n}\n"},
		{"an empty object", "{}\n", "{\n  \"authorization-plugins\": [\"gate\"]\n}\n"},
		{"one line", `{"a":1}`, `{"a":1, "authorization-plugins": ["gate"]}`},
		{"two spaces", "{\n  \"a\": {\"b\": [1, 2]},\n  \"c\": null\n}\n", "{\n  \"a\": {\"b\": [1, 2]},\n  \"c\": null,\n  \"authorization-plugins\": [\"gate\"]\n}\n"},
		{"tabs and carriage returns", "{\r\n\t\"a\" : true\r\n}", "{\r\n\t\"a\" : true,\r\n\t\"authorization-plugins\": [\"gate\"]\r\n}"},
		{"an empty list", `{"authorization-plugins": []}`, `{"authorization-plugins": ["gate"]}`},
		{"another plugin", `{"authorization-plugins": ["x"], "b": 1}`, `{"authorization-plugins": ["x", "gate"], "b": 1}`},
		{"plugins on lines", "{\n  \"authorization-plugins\": [\n    \"x\",\n    \"y\"\n  ]\n}", "{\n  \"authorization-plugins\": [\n    \"x\",\n    \"y\",\n    \"gate\"\n  ]\n}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, err := install.Add([]byte(c.before), "gate")
			if err != nil {
				t.Fatal(err)
			}
			if string(after) != c.after {
				t.Errorf("added:\n%s\nwant:\n%s", after, c.after)
			}
			again, err := install.Add(after, "gate")
			if err != nil || string(again) != string(after) {
				t.Errorf("added twice: %v\n%s", err, again)
			}
			removed, err := install.Remove(after, "gate")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(removed), "gate") || !sameMeaning(t, c.before, string(removed)) {
				t.Errorf("removed:\n%s\nwas:\n%s", removed, c.before)
			}
		})
	}
}

// sameMeaning compares two configurations, an empty list of plugins being none.
func sameMeaning(t *testing.T, a, b string) bool {
	parse := func(text string) map[string]any {
		m := map[string]any{}
		if text != "" {
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		}
		if list, ok := m["authorization-plugins"].([]any); ok && len(list) == 0 {
			delete(m, "authorization-plugins")
		}
		return m
	}
	return reflect.DeepEqual(parse(a), parse(b))
}

func TestAddRefuses(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"{\n  \"a\": 1\n  \"b\": 2\n}", "line 3"},
		{"[]", "not a JSON object"},
		{`{"authorization-plugins": "x"}`, "not a list of names"},
		{`{"authorization-plugins": [1]}`, "not a list of names"},
		{`{"a":1,"a":2}`, "twice"},
		{`{} {}`, "follows"},
		{`{"a":`, "not valid JSON"},
	} {
		if out, err := install.Add([]byte(c.data), "gate"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\n%s", c.data, err, out)
		}
	}
}

func FuzzEdit(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"authorization-plugins":["a" , "gate","b"]}`, "{ \"x\" :\t[{\"y\":[]}] ,\n\"authorization-plugins\":\n[ ]}", `{"a":"\u0022,"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		after, err := install.Add(data, "gate")
		if err != nil {
			return
		}
		var v struct {
			Plugins []string `json:"authorization-plugins"`
		}
		if err := json.Unmarshal(after, &v); err != nil || !slices.Contains(v.Plugins, "gate") {
			t.Fatalf("%v: %q became %q", err, data, after)
		}
		removed, err := install.Remove(after, "gate")
		if err != nil {
			t.Fatalf("%v: %q", err, after)
		}
		if len(removed) > 0 && !json.Valid(removed) {
			t.Fatalf("%q became %q", after, removed)
		}
	})
}

func TestDiff(t *testing.T) {
	got := install.Diff("f", []byte("1\n2\n3\n4\n5\n6\n7\n8\n"), []byte("1\n2\n3\n4\n5\nnew\n6\n7\n8\n"))
	want := "--- f\n+++ f\n@@ -3,6 +3,7 @@\n 3\n 4\n 5\n+new\n 6\n 7\n 8\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := install.Diff("f", nil, []byte("x")); got != "--- /dev/null\n+++ f\n@@ -0,0 +1,1 @@\n+x\n\\ No newline at end of file\n" {
		t.Errorf("a new file:\n%s", got)
	}
}
