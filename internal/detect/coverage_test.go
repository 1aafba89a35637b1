package detect_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The table of docs/detections-coverage.md names detections that exist, and all
// that are shipped; its rows are whole.
func TestTheCoverageTableIsRight(t *testing.T) {
	manual, err := os.ReadFile("../../docs/detections-coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	known := load(t).Known()
	named, rows := map[string]bool{}, 0
	word := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(manual)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| theirs") || strings.HasPrefix(line, "| ours") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		ours, silent := cells[0], false
		if len(cells) == 6 { // with theirs first
			rows++
			ours = cells[1]
			silent = strings.TrimSpace(ours) == "not covered"
			if silent && strings.TrimSpace(cells[5]) == "" {
				t.Errorf("no reason why this is not covered: %s", line)
			}
		} else if len(cells) != 4 {
			t.Errorf("%d cells: %s", len(cells), line)
		}
		ids := word.FindAllStringSubmatch(ours, -1)
		if len(ids) == 0 && !silent {
			t.Errorf("names nothing of ours: %s", line)
		}
		for _, id := range ids {
			section, _, _ := strings.Cut(id[1], ".")
			if section == "run" || section == "start" || section == "image" {
				continue
			}
			named[id[1]] = true
			if _, exists := known[id[1]]; !exists {
				t.Errorf("%s is no detection: %s", id[1], line)
			}
		}
	}
	if rows < 33+25+30+37 {
		t.Errorf("%d behaviours of others", rows)
	}
	for id := range known {
		if !named[id] {
			t.Errorf("%s stands in no row", id)
		}
	}
}
