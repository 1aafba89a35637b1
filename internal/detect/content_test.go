package detect_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/detect"
)

func load(t testing.TB) *detect.Rules {
	t.Helper()
	rules, err := detect.Load(content.Detections())
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestContent tries every shipped detection on its own examples.
func TestContent(t *testing.T) {
	rules := load(t)
	if err := rules.Check(); err != nil {
		t.Error(err)
	}
	if n := len(rules.All()); n < 80 {
		t.Errorf("%d detections", n)
	}
}
