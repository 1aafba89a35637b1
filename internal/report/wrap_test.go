package report_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/report"
)

// TestNarrowTerminal: no line but a command is longer than the terminal, and
// nothing that a wide one shows of the sentences is lost.
func TestNarrowTerminal(t *testing.T) {
	for _, width := range []int{80, 100, 160} {
		r := sample()
		r.Gaps = append(r.Gaps, strings.Repeat("a long sentence of many words ", 20))
		var out bytes.Buffer
		if err := report.Table(&out, r, report.Look{Width: width}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width && !strings.Contains(line, "apt-get") {
				t.Errorf("width %d: %d characters: %s", width, n, line)
			}
		}
		if n := strings.Count(strings.Join(strings.Fields(out.String()), " "), "a long sentence of many words"); n != 20 {
			t.Errorf("width %d: %d of 20 are left", width, n)
		}
	}
}
