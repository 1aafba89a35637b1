package check_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/checks.md anew")

// TestTheManualListsEveryCheck holds the tables of docs/checks.md against the
// checks themselves. `go test ./internal/check -update` writes them.
func TestTheManualListsEveryCheck(t *testing.T) {
	const file, mark = "../../docs/checks.md", "\n<!-- generated from content/checks: go test ./internal/check -update -->\n"
	manual, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(manual), mark)
	if !ok {
		t.Fatalf("%s has no line %s", file, strings.TrimSpace(mark))
	}
	want := head + mark + tables(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(manual) != want {
		t.Errorf("%s is not what content/checks says: go test ./internal/check -update", file)
	}
}

func tables(t *testing.T) string {
	var b strings.Builder
	for _, section := range []struct{ prefix, title string }{
		{"docker-", "Dockerfiles"}, {"k8s-", "Kubernetes manifests"}, {"compose-", "Compose files"}, {"image-", "Configuration of images"},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| check | severity | what is wrong | way out | references |\n| --- | --- | --- | --- | --- |\n", section.title)
		for _, c := range load(t).All() {
			if strings.HasPrefix(c.ID, section.prefix) {
				cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", c.ID, c.Severity, cell.Replace(c.Title), cell.Replace(c.Remediation), strings.Join(c.References, ", "))
			}
		}
	}
	return b.String()
}
