package policy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/policy"
)

// TestTheManualsExamplesAreRight parses every example of docs/policy.md that
// is not shortened by "…".
func TestTheManualsExamplesAreRight(t *testing.T) {
	manual, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```$")
	tried := 0
	for _, m := range fence.FindAllStringSubmatch(string(manual), -1) {
		indent, text := m[1], m[2]
		if strings.Contains(text, "…") {
			continue
		}
		if indent != "" { // a field of the section before
			text = "image:\n" + text
		}
		if _, err := policy.Parse("docs/policy.md", []byte(head+text)); err != nil {
			t.Errorf("%s%v", text, err)
		}
		tried++
	}
	if tried < 5 {
		t.Errorf("only %d examples", tried)
	}
}

// TestTheManualNamesWhatIsRefused holds the last section against the language.
func TestTheManualNamesWhatIsRefused(t *testing.T) {
	manual, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(manual), "\n## Not implemented in this version\n")
	if !ok {
		t.Fatal("the section is gone")
	}
	for _, path := range regexp.MustCompile("`([a-z]+\\.)([a-zA-Z]+)`").FindAllStringSubmatch(section, -1) {
		text := head + strings.TrimSuffix(path[1], ".") + ": {" + path[2] + ": x}\n"
		if _, err := policy.Parse("p.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "not implemented in this version") {
			t.Errorf("%s%s: %v", path[1], path[2], err)
		}
	}
}
