package condition_test

import (
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
)

type thing struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Parts  []part            `json:"parts"`
}

type part struct {
	Size int `json:"size"`
}

func env(t *testing.T) *condition.Env {
	t.Helper()
	env, err := condition.NewEnv(map[string]any{"thing": thing{}, "word": "", "parts": []part{}})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func compile(t *testing.T, text string) (*condition.Condition, error) {
	t.Helper()
	docs, err := document.Parse("c.yaml", []byte("when: |\n  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := document.NewReader("c.yaml")
	var c *condition.Condition
	r.Value(docs[0]).Map(document.Fields{"when": func(v document.Value) { c = env(t).Compile(v) }})
	return c, r.Err()
}

func TestEval(t *testing.T) {
	vars := map[string]any{
		"thing": &thing{Name: "x", Labels: map[string]string{"a": "b"}, Parts: []part{{1}, {2}}},
		"word":  "w", "parts": []part{{3}},
	}
	f := func(text string, want bool) {
		t.Helper()
		c, err := compile(t, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, err := c.Eval(vars); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	f(`thing.name == "x" && word == "w"`, true)
	f(`thing.labels["a"] == "b"`, true)
	f(`"c" in thing.labels`, false)
	f(`thing.parts.exists(p, p.size == 2)`, true)
	f(`parts.all(p, p.size > 3)`, false)
	f(`thing.name.matches("^[a-z]$")`, true)
	f(`cidr("10.0.0.0/8").containsIP(ip("10.1.2.3"))`, true)
}

func TestNoAnswer(t *testing.T) {
	for _, text := range []string{`thing.labels["none"] == "b"`, `thing.parts[7].size == 1`} {
		c, err := compile(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Eval(map[string]any{"thing": &thing{}}); err == nil {
			t.Errorf("%s: an answer", text)
		}
	}
}

func TestMistakesAreAtTheirPlace(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := compile(t, text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	f("thing.nam == \"x\"", "c.yaml:2:8: when: in the condition: undefined field")
	f("true &&\n  wrd == \"x\"", "c.yaml:3:5: when: in the condition: undeclared reference")
	f("word", "c.yaml:1:7: when: is string")
	f("word == 3", "c.yaml:2:8: when: in the condition: found no matching overload for '==' applied to")
	f("word ==", "c.yaml:2:")
	f(`word.matches("[")`, "c.yaml:2:")
	f(strings.Repeat("(", 200)+"true"+strings.Repeat(")", 200), "c.yaml:")
	f(strings.Repeat("true && ", 1_500)+"true", "c.yaml:")
}

func TestReads(t *testing.T) {
	c, err := compile(t, `parts.exists(p, p.size == 1)`)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Reads("parts") || c.Reads("thing") || c.Reads("word") {
		t.Error("Reads does not say what the condition reads")
	}
}

// TestHostileConditions: what would take seconds or gigabytes does not compile
// within a budget, or has no answer. Without the bounds this test does not end.
func TestHostileConditions(t *testing.T) {
	whole := env(t)
	within := whole.Within(condition.Budget{Cost: 100_000, Text: 4096, Items: 64})
	read := func(e *condition.Env, text string) (*condition.Condition, error) {
		docs, err := document.Parse("c.yaml", []byte("when: |\n  "+text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		r := document.NewReader("c.yaml")
		var c *condition.Condition
		r.Value(docs[0]).Map(document.Fields{"when": func(v document.Value) { c = e.Compile(v) }})
		return c, r.Err()
	}
	grow := func(times int, by string) string { return "word" + strings.Repeat(by, times) + `.contains("x")` }
	list := "[" + strings.Repeat("1,", 200) + "1]"
	vars := map[string]any{"word": strings.Repeat("a", 100), "thing": &thing{Name: "a"}, "parts": []part{{1}, {2}}}
	for _, text := range []string{
		list + ".all(a, " + list + ".all(b, " + list + ".all(c, a + b + c > 0)))",
		grow(12, `.replace("a", "aaaaaaaaaaaaaaaa")`),
		grow(30, `.replace("", word)`),
		grow(12, `.split("").join("aaaaaaaaaaaaaaaa")`),
		`thing.parts.all(a, thing.parts.all(b, thing.parts.all(c, a.size + b.size + c.size > 0)))`,
		`thing.labels.all(k, thing.labels.all(l, k.matches("(a|b|c)*d{1,50}(e|f)*") || l.contains(k)))`,
		"[word, word, word, word].all(a, " + strings.Repeat(`a.matches("(x+x+)+y(a|b|c|d)*e{1,90}") || `, 20) + "true)",
	} {
		if _, err := read(within, text); err == nil || !strings.Contains(err.Error(), "units of work") {
			t.Errorf("%.80s…: compiles within the budget: %v", text, err)
		}
		c, err := read(whole, text)
		if err != nil {
			t.Errorf("%.80s…: %v", text, err)
			continue
		}
		_, _ = c.Eval(vars) // ends
	}
	c, err := read(within, `thing.name.startsWith("/etc/") && thing.parts.exists(p, p.size == 7)`)
	if err != nil || c.Cost == 0 {
		t.Fatalf("a plain condition: %v", err)
	}
	many := thing{Name: "/etc/x", Parts: make([]part, 1_000_000)} // more than was estimated
	if _, err := c.Eval(map[string]any{"thing": &many}); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("more work than its budget: %v", err)
	}
}
