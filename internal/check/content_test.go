package check_test

import (
	"testing"
	"testing/fstest"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/check"
)

// TestContent tries every check that comes with Breakwater on its own samples.
func TestContent(t *testing.T) {
	checks, err := check.Load(content.Checks())
	if err != nil {
		t.Fatal(err)
	}
	if err := checks.Try(); err != nil {
		t.Error(err)
	}
}

func fsOf(text string) fstest.MapFS { return fstest.MapFS{"c.yaml": {Data: []byte(text)}} }
