package scan_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
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

// TestSecretsOfCommands: a value that stands only in the entrypoint or the
// command is found there, also when its name is another word, and is in the
// report nowhere.
func TestSecretsOfCommands(t *testing.T) {
	const password, token, short = "correct-Horse7battery", "AKIA" + "Q3EGRZ7PLWVXN2TA", "k9!Zq"
	for _, c := range []struct {
		name            string
		entrypoint, cmd []string
		want            []string // paths of places
	}{
		{"a value in its option's word", []string{"app", "--password=" + password, "run"}, nil, []string{"entrypoint"}},
		{"a value after its option", []string{"app"}, []string{"--db-password", password}, []string{"cmd"}},
		{"a shell's line", nil, []string{"/bin/sh", "-c", "DB_PASSWORD=" + password + " exec app"}, []string{"cmd"}},
		{"one in each", []string{"app", "--password", password}, []string{"sync", token}, []string{"entrypoint", "cmd"}},
		{"the same in both", []string{"app", "--password=" + password}, []string{"--password=" + password}, []string{"entrypoint", "cmd"}},
		{"a short one", []string{"app", "--password=" + short}, nil, nil},
		{"none", []string{"/docker-entrypoint.sh"}, []string{"nginx", "-g", "daemon off;"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, imagetest.File("etc/motd", "x"))}, Config: func(m map[string]any) {
				m["config"] = map[string]any{"Entrypoint": c.entrypoint, "Cmd": c.cmd, "User": "app"}
				delete(m, "history")
			}}
			rep := mustScan(t, scan.Options{Target: archive(t, i.Archive(t, imagetest.Old)), Look: scan.Look{Secrets: true}})
			var at []string
			for _, s := range rep.Secrets {
				if s.Place.Kind != event.PlaceCommand {
					t.Errorf("%+v", s)
				}
				at = append(at, s.Place.Path)
			}
			if !slices.Equal(at, c.want) {
				t.Errorf("found in %q, want %q", at, c.want)
			}
			text, err := json.Marshal(rep)
			if err != nil {
				t.Fatal(err)
			}
			if c.want != nil && (strings.Contains(string(text), password) || strings.Contains(string(text), token)) {
				t.Errorf("a value is in the report: %s", text)
			}
			if len(rep.Config.Entrypoint) != len(c.entrypoint) || len(rep.Config.Cmd) != len(c.cmd) {
				t.Errorf("words were lost: %q %q", rep.Config.Entrypoint, rep.Config.Cmd)
			}
		})
	}
}
