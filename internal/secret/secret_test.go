package secret_test

import (
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/secret"
)

var template = regexp.MustCompile(`\{(b64url|b64|base32|hex|HEX|digit|lower|upper|lownum|upnum|alnum|word|bech32):(\d+)\}`)

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var classes = map[string]string{
	"b64": upper + lower + digits + "+/", "b64url": upper + lower + digits + "-_", "base32": upper + "234567",
	"hex": digits + "abcdef", "HEX": digits + "ABCDEF", "digit": digits, "lower": lower, "upper": upper,
	"lownum": lower + digits, "upnum": upper + digits, "alnum": upper + lower + digits, "bech32": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", "word": upper + lower + digits + "_",
}

// expand fills in a sample's templates: {CLASS:N} is N characters, always the
// same ones for one sample.
func expand(sample string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(sample))
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	return fill(sample, func(class string) byte { return class[r.IntN(len(class))] })
}

func fill(sample string, pick func(class string) byte) string {
	return template.ReplaceAllStringFunc(sample, func(s string) string {
		m := template.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		out := make([]byte, n)
		for i := range out {
			out[i] = pick(classes[m[1]])
		}
		return string(out)
	})
}

// found lists the rules that find something in a text, by their ids.
func found(t *testing.T, f *secret.Finder, kind, path, text string) []string {
	t.Helper()
	var ids []string
	if kind != event.PlaceFile {
		for _, s := range f.Text(kind, text) {
			ids = append(ids, s.Rule)
		}
		return ids
	}
	c, err := f.Examine(path, []byte(text))
	if err != nil || len(c.Gaps) > 0 {
		t.Fatalf("%v, gaps %q", err, c.Gaps)
	}
	for _, s := range c.Secrets {
		ids = append(ids, s.Rule)
	}
	return ids
}

// TestRules holds every rule against its own samples: it finds its secrets,
// and nobody else finds them a second time; not what the samples say is none;
// not its own samples with filler in the place of the random part.
func TestRules(t *testing.T) {
	rules, err := secret.Rules()
	if err != nil {
		t.Fatal(err)
	}
	f := secret.NewFinder(rules)
	for _, r := range rules {
		t.Run(r.ID, func(t *testing.T) {
			kind, path := r.SamplePlace()
			for _, sample := range r.Find {
				for _, text := range []string{expand(sample), "first line\n" + expand(sample) + "\nlast line"} {
					if got := found(t, f, kind, path, text); !slices.Equal(got, []string{r.ID}) {
						t.Errorf("%s: found %q", sample, got)
					}
				}
				if !template.MatchString(sample) {
					t.Errorf("%s: stands whole in our files; put {CLASS:N} in the place of what is random", sample)
				}
				if got := found(t, f, kind, path, fill(sample, func(string) byte { return 'x' })); slices.Contains(got, r.ID) {
					t.Errorf("%s: filler is found", sample)
				}
			}
			for _, sample := range r.Pass {
				if got := found(t, f, kind, path, expand(sample)); slices.Contains(got, r.ID) {
					t.Errorf("%s: is found", sample)
				}
			}
		})
	}
}

// TestFiles reads the built-in files as strictly as anybody's.
func TestFiles(t *testing.T) {
	names, err := fs.Glob(content.Secrets(), "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	kinds := 0
	for _, name := range names {
		data, err := fs.ReadFile(content.Secrets(), name)
		if err != nil {
			t.Fatal(err)
		}
		rules, err := secret.Parse(name, data)
		if err != nil {
			t.Error(err)
		}
		kinds += len(rules)
	}
	if kinds < 150 {
		t.Errorf("only %d kinds", kinds)
	}
}

func TestMistakes(t *testing.T) {
	const rule = "apiVersion: breakwater/v1\nkind: SecretRules\nrules:\n  - {id: x, title: X, severity: high, find: [a], "
	for text, want := range map[string]string{
		rule + "keywords: [abcd]}":                                   "give either regexp, or both named and value",
		rule + "keywords: [abcd], named: x}":                         "give either regexp, or both named and value",
		rule + "keywords: [ab], regexp: a}":                          "r.yaml:4:60: rules[0].keywords: keyword \"ab\": it needs at least 3 characters",
		rule + "keywords: [], regexp: a}":                            "is empty",
		rule + "keywords: [abcd], regexp: '('}":                      "missing closing )",
		rule + "keywords: [abcd], regexp: a, entropy: 9}":            "is not a number from 0 to 8",
		rule + "keywords: [abcd], regexp: a, after: 100000}":         "is not a whole number",
		rule + "keywords: [abcd], regexp: a, places: everywhere}":    "none of config, file",
		strings.Replace(rule, "id: x", "id: X y", 1) + "regexp: a}":  "is not an id",
		"apiVersion: breakwater/v1\nkind: SecretRules\nrules: [7]\n": "must be a map",
		"kind: SecretRules\n":                                        "apiVersion: is missing",
	} {
		if _, err := secret.Parse("r.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v; want %q", text, err, want)
		}
	}
}

// TestEveryPlace finds a keyword at each offset of a text and of its end, in a
// large text, and each value once.
func TestEveryPlace(t *testing.T) {
	f, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	key := expand("AKIA{base32:16}")
	for n := range 300 {
		if got := found(t, f, event.PlaceFile, "srv/a", strings.Repeat(" ", n)+key); !slices.Equal(got, []string{"aws-access-key-id"}) {
			t.Errorf("%d spaces: %q", n, got)
		}
	}
	c, err := f.Examine("srv/a", []byte(strings.Repeat("some line of text, token and password\n", 50_000)+key+"\n"+key+"\nghp_"+expand("{alnum:36}")))
	if err != nil || len(c.Secrets) != 2 || c.Secrets[0].Place.Line != 50_001 || c.Secrets[1].Place.Line != 50_003 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestBounds: a file of nothing but secrets costs no more than its bound, and
// the report says that it was cut.
func TestBounds(t *testing.T) {
	f, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range 5_000 {
		fmt.Fprintf(&b, "%s # %d\n", expand(fmt.Sprintf("AKIA{base32:16} %d", n)), n)
	}
	c, err := f.Examine("srv/a", []byte(b.String()))
	if err != nil || len(c.Secrets) != 100 || len(c.Gaps) != 1 {
		t.Errorf("%d secrets, gaps %q, %v", len(c.Secrets), c.Gaps, err)
	}
	rules, err := secret.Rules()
	if err != nil {
		t.Fatal(err)
	}
	var words strings.Builder
	for words.Len() < 4<<20 {
		for _, r := range rules {
			fmt.Fprintf(&words, "%s ", r.Keywords[0])
		}
	}
	if c, err := f.Examine("srv/a.env", []byte(words.String())); err != nil || len(c.Secrets) != 0 || len(c.Gaps) != 1 {
		t.Errorf("%d secrets, gaps %q, %v", len(c.Secrets), c.Gaps, err)
	}
}

func TestWants(t *testing.T) {
	f, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"srv/app/.env": true, "root/.ssh/id_rsa": true, "etc/app.conf": true, "srv/dump.sql": true, "entrypoint.sh": true, "usr/local/bin/tool": true,
		"usr/lib/python3/dist-packages/app/settings.py": true, "var/log/app.log": true,
		"usr/share/doc/x/README": false, "srv/logo.png": false, "srv/app.jar": false, "usr/lib/libx.so.1": false, "usr/include/a.h": false, "srv/main.css": false,
	} {
		if got := f.Wants(path, 1000, false); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	for _, x := range []struct {
		path string
		size int64
		exec bool
		want bool
	}{{"srv/server", 20 << 20, true, false}, {"srv/a.log", 20 << 20, false, true}, {"srv/data", 20 << 20, false, false}, {"srv/a.env", 3, false, false}, {"srv/run", 1000, true, true}} {
		if got := f.Wants(x.path, x.size, x.exec); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.Wants("srv/some/long/path/to/a/file.txt", 1000, false) }); n != 0 {
		t.Errorf("Wants allocates %v times", n)
	}
	binary := []byte("key " + expand("AKIA{base32:16}") + "\x00")
	if got := found(t, f, event.PlaceFile, "srv/a", string(binary)); got != nil {
		t.Errorf("in a program: %q", got)
	}
	if got := found(t, f, event.PlaceFile, "app/node_modules/x/test/key.js", expand("AKIA{base32:16}")); got != nil {
		t.Errorf("in a library's tests: %q", got)
	}
	if got := found(t, f, event.PlaceFile, "app/test/key.js", expand("AKIA{base32:16}")); got == nil {
		t.Error("one's own tests are not looked at")
	}
}

// FuzzExamine: whatever the text is, every value lies in it, by its line too,
// and no more of it is shown than is allowed.
func FuzzExamine(f *testing.F) {
	rules, err := secret.Rules()
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range rules {
		f.Add("srv/a.env", expand(r.Find[0]))
	}
	finder := secret.NewFinder(rules)
	f.Fuzz(func(t *testing.T, path, text string) {
		if _, err := finder.Examine(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		last := 0
		for _, s := range finder.Text(event.PlaceHistory, text) {
			if s.Start < last || s.End <= s.Start || s.End > len(text) {
				t.Fatalf("a value from %d to %d, after %d, of %d", s.Start, s.End, last, len(text))
			}
			last = s.End
			if shown, _, _ := strings.Cut(s.Excerpt, "…"); len(shown) > 4 || s.End-s.Start < 16 && shown != "" {
				t.Fatalf("%q shows too much", s.Excerpt)
			}
			if s.Place.Line < 1 || s.Place.Line > 1+strings.Count(text, "\n") {
				t.Fatalf("line %d", s.Place.Line)
			}
		}
	})
}

func TestExcerpt(t *testing.T) {
	f, err := secret.New()
	if err != nil {
		t.Fatal(err)
	}
	key := expand("AKIA{base32:16}")
	all := f.Text(event.PlaceEnv, "X="+key+" DB_PASSWORD=short-one")
	if len(all) != 2 || all[0].Excerpt != "AKIA…" || all[1].Excerpt != "…" {
		t.Errorf("got %+v", all)
	}
	for _, s := range all {
		if strings.Contains(s.Excerpt, key[4:8]) {
			t.Errorf("%q tells of the value", s.Excerpt)
		}
	}
}
