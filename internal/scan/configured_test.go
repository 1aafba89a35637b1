package scan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// TestNoSecretOfAConfigurationIsInTheReport: a value that was found at one place
// is taken out of all of them, also where it stands twice or alone.
func TestNoSecretOfAConfigurationIsInTheReport(t *testing.T) {
	const token, password = "q9Zt4Wn8Lr2Kx7Bv5Mc1", "correct-Horse7battery"
	i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("etc/motd", "x"))}, Config: func(c map[string]any) {
		c["config"] = map[string]any{
			"Env":        []string{"DB_PASSWORD=" + password, "COPY_OF_IT=x" + password + "y"},
			"Entrypoint": []string{"app", "--with", password},
			"Cmd":        []string{"serve", token},
			"User":       "app",
			"Labels":     map[string]string{"how": "log in with " + password},
		}
		c["history"] = []any{map[string]any{"created_by": "RUN NPM_TOKEN=" + token + " npm ci && npm whoami " + token + " && echo " + token}}
	}}
	rep := mustScan(t, scan.Options{Target: archive(t, i.Archive(t, imagetest.Old)), Look: scan.Look{Secrets: true}})
	if len(rep.Secrets) == 0 {
		t.Fatal("no secret was found")
	}
	text, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{token, password} {
		if n := strings.Count(string(text), value); n > 0 {
			t.Errorf("%s is in the report %d times: %s", value, n, text)
		}
	}
}
