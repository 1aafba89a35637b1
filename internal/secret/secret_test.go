package secret_test

import (
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/secret"
)

var template = regexp.MustCompile(`\{(b64url|b64|base32|hex|HEX|digit|lower|upper|lownum|upnum|alnum|word):(\d+)\}`)

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var classes = map[string]string{
	"b64": upper + lower + digits + "+/", "b64url": upper + lower + digits + "-_", "base32": upper + "234567",
	"hex": digits + "abcdef", "HEX": digits + "ABCDEF", "digit": digits, "lower": lower, "upper": upper,
	"lownum": lower + digits, "upnum": upper + digits, "alnum": upper + lower + digits, "word": upper + lower + digits + "_",
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
