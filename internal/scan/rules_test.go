//go:build yara && cgo

package scan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/image/imagetest"
	"github.com/breakwater-sec/breakwater/internal/malware"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

func rules(t *testing.T, text string) *malware.RuleSet {
	t.Helper()
	set, err := malware.CompileRules([]malware.RuleFile{{Name: "test.yar", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const needle = `rule needle { meta: severity = "critical" strings: $a = "needle" condition: $a }`

func matched(rep *report.Report) string {
	var all []string
	for _, m := range rep.Malware {
		all = append(all, fmt.Sprintf("%s %s %s %d %v", m.Name, m.Engine, m.Place.Path, m.Place.LayerIndex, m.Place.Deleted))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// read scans, and says how many layers were read.
func read(t *testing.T, o scan.Options) int {
	t.Helper()
	var last image.Progress
	o.Progress = func(p image.Progress) { last = p }
	mustScan(t, o)
	return last.Layers
}

// withNeedles has one in each layer; the second removes the first's.
func withNeedles(t *testing.T) imagetest.Image {
	return imagetest.Image{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("opt/gone.txt", "a needle"), imagetest.File("opt/large.txt", strings.Repeat("needle ", 200))),
		imagetest.Tar(t, imagetest.File("opt/.wh.gone.txt", ""), imagetest.File("srv/deep/in/it.bin", "hay\x00needle"), imagetest.File("empty", ""), imagetest.File("b", strings.Repeat("needle ", 200))),
	}}
}

// TestYARAInEverySource: rules reach the confined reader whatever the image comes
// from; what is larger than its memory for files is told once, as a number.
func TestYARAInEverySource(t *testing.T) {
	i := withNeedles(t)
	for _, target := range []string{
		archive(t, i.Archive(t, imagetest.Old)), archive(t, i.Archive(t, imagetest.OCIGzip)),
		"oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCIZstd)),
	} {
		rep := mustScan(t, scan.Options{Target: target, Rules: rules(t, needle), Content: 1000})
		if got := matched(rep); got != "needle yara opt/gone.txt 0 true, needle yara srv/deep/in/it.bin 1 false" {
			t.Errorf("%s: %s", target, got)
		}
		var told []string
		for _, g := range rep.Gaps {
			if strings.Contains(g, "YARA") {
				told = append(told, g)
			}
		}
		if len(told) != 1 || told[0] != "YARA rules were not evaluated on 2 files of more than 1000 bytes" {
			t.Errorf("%s: gaps %q", target, rep.Gaps)
		}
		if !slices.Contains(rep.Looked, event.LookedMalware) || len(rep.Engines) != 1 || !strings.HasPrefix(rep.Engines[0], "YARA 4.") {
			t.Errorf("%s: looked %q by %q", target, rep.Looked, rep.Engines)
		}
		if rep.Malware[0].Severity != event.SeverityCritical || !strings.Contains(rep.Malware[0].Reason, "test.yar") {
			t.Errorf("%+v", rep.Malware[0])
		}
		for _, n := range rep.Notes {
			if strings.Contains(n, "seccomp") || strings.Contains(n, "could") {
				t.Errorf("not confined: %s", n)
			}
		}
	}
	rep := mustScan(t, scan.Options{Target: "dir:" + imagetest.Write(t, t.TempDir(), map[string][]byte{"a/b": []byte("needle"), "c": []byte("hay")}), Rules: rules(t, needle)})
	if got := matched(rep); got != "needle yara a/b 0 false" {
		t.Errorf("folder: %s", got)
	}
}

// TestYARARulesAreKeptByTheirVersion: a layer is read once for the same rules, and
// again for others.
func TestYARARulesAreKeptByTheirVersion(t *testing.T) {
	dir := t.TempDir()
	target := "oci-layout:" + imagetest.Write(t, t.TempDir(), withNeedles(t).Layout(t, imagetest.OCI))
	for n, c := range []struct {
		rules *malware.RuleSet
		read  int
	}{{nil, 2}, {rules(t, needle), 2}, {rules(t, needle), 0}, {rules(t, needle+"\n"), 2}, {nil, 0}} {
		if got := read(t, scan.Options{Target: target, Rules: c.rules, Cache: openCache(t, dir, 0)}); got != c.read {
			t.Errorf("scan %d: %d layers read, want %d", n, got, c.read)
		}
	}
	rep := mustScan(t, scan.Options{Target: target, Rules: rules(t, needle), Cache: openCache(t, dir, 0)})
	if len(rep.Malware) != 4 {
		t.Errorf("kept: %s", matched(rep))
	}
}

// TestYARARulesThatAreCutOff: malware does not count as looked for, by whoever else
// looked for it, and nothing of that layer is kept.
func TestYARARulesThatAreCutOff(t *testing.T) {
	slow := rules(t, needle+` rule slow { strings: $a = "slow" condition: $a and for all i in (1..1000000000000) : (uint8(i % filesize) != 1) }`)
	i := imagetest.Image{Layers: [][]byte{
		imagetest.Tar(t, imagetest.File("a", "needle")),
		imagetest.Tar(t, imagetest.File("b", "slow"), imagetest.File("c", "needle")),
	}}
	target := "oci-layout:" + imagetest.Write(t, t.TempDir(), i.Layout(t, imagetest.OCI))
	o := scan.Options{Target: target, Rules: slow, Cache: openCache(t, t.TempDir(), 0), Hashes: hashes{}, Look: scan.Look{Programs: true, RuleTime: time.Second}}
	rep := mustScan(t, o)
	if got := matched(rep); got != "needle yara a 0 false, needle yara c 1 false" {
		t.Error(got)
	}
	gaps := strings.Join(rep.Gaps, "\n")
	if !strings.Contains(gaps, "layer 1: b: yara: the rules were cut off after 1s") || !strings.Contains(gaps, "YARA rules were not evaluated to their end") {
		t.Errorf("gaps %s", gaps)
	}
	if slices.Contains(rep.Looked, event.LookedMalware) {
		t.Errorf("looked %q", rep.Looked)
	}
	if n := read(t, o); n != 1 {
		t.Errorf("again: %d layers read", n)
	}
	// An engine that was asked for and is away is not made good by rules.
	rep = mustScan(t, scan.Options{Target: target, Rules: rules(t, needle), MalwareAway: true})
	if slices.Contains(rep.Looked, event.LookedMalware) || len(rep.Malware) != 2 {
		t.Errorf("looked %q, found %s", rep.Looked, matched(rep))
	}
}
