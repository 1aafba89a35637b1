package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/config"
)

func TestParse(t *testing.T) {
	c, err := config.Parse("breakwater.yaml", []byte(`
apiVersion: breakwater/v1
kind: Configuration
intelligence: {source: "https://mirror.example/advisories", every: 1d}
retention: {events: 7d, maxEvents: 5000}
outputs:
  - name: siem
    each: story
    syslog: {address: "siem.example:6514", facility: local0}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Intelligence.Every != 24*time.Hour || c.Retention.Events != 7*24*time.Hour ||
		c.Retention.MaxEvents != 5000 || len(c.Outputs) != 1 || c.Outputs[0].Syslog.Address != "siem.example:6514" || !c.Outputs[0].Rises {
		t.Errorf("read wrongly: %+v", c)
	}
}

func TestAbsentFileIsTheDefault(t *testing.T) {
	c, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if err != nil || c.Retention.MaxEvents != config.Default().Retention.MaxEvents {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	head := "apiVersion: breakwater/v1\nkind: Configuration\n"
	for _, c := range []struct{ text, want string }{
		{"kind: Configuration\n", "apiVersion"},
		{head + "stages: x\n", "c.yaml:3:1"},
		{head + "retention: {events: soon}\n", "no time span"},
		{head + "retention: {events: 1m}\n", "too short"},
		{head + "intelligence: {source: ftp://x}\n", "no URL"},
		{head + "outputs: [{name: a, syslog: {address: nowhere}}]\n", "address"},
		{head + "outputs: [{name: a}]\n", "syslog"},
		{head + "outputs: [{name: a, each: step, syslog: {address: \"h:1\"}}]\n", "story"},
		{head + "outputs:\n- {name: a, syslog: {address: \"h:1\"}}\n- {name: a, syslog: {address: \"h:1\"}}\n", "c.yaml:5"},
		{head + "---\n" + head, "one document"},
	} {
		_, err := config.Parse("c.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want an error with %q", c.text, err, c.want)
		}
	}
}
