// Package breakwater_test checks the house itself: which room may import which
// (the layer table of ARCHITECTURE.md, as code), one package comment each, the
// reviewed list of modules, and file sizes.
package breakwater_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/breakwater-sec/breakwater"

// layers puts every room on its floor. A room may import rooms on lower
// floors; its own subfolders belong to it.
var layers = map[string]int{
	"internal/event": 0, "api": 0, "content": 0, "bpf": 0,
	"internal/document": 0, "internal/condition": 0, "internal/durable": 0, "internal/license": 0, "internal/vex": 0,

	"internal/policy": 1, "internal/image": 1, "internal/inventory": 1, "internal/vuln": 1,
	"internal/intel": 1, "internal/report": 1, "internal/advice": 1, "internal/baseline": 1, "internal/spool": 1, "internal/journal": 1, "internal/confine": 1,
	"internal/check": 1, "internal/signature": 1,
	"internal/secret": 1, "internal/malware": 1,

	"internal/scan": 2, "internal/sensor": 2, "internal/workload": 2, "internal/detect": 2,
	"internal/enforce": 2, "internal/gate": 2, "internal/bus": 2, "internal/store": 2,
	"internal/auth": 2, "internal/notify": 2, "internal/web": 2, "internal/probe": 2,
	"internal/config": 2, "internal/evidence": 2, "internal/resource": 2,

	"internal/agent": 3, "internal/server": 3,

	"cmd/breakwater": 4,
}

// sideways lists the imports between rooms of one floor, each with its reason.
var sideways = map[string]map[string]string{
	"internal/auth":      {"internal/store": "accounts and sessions are rows that the store keeps"},
	"internal/web":       {"internal/store": "pages show its rows through its filters", "internal/auth": "every page asks who is reading"},
	"internal/license":   {"internal/event": "what a file states is told in the vocabulary"},
	"internal/config":    {"internal/notify": "an output is configured in its driver's own words"},
	"internal/enforce":   {"internal/sensor": "enforcement writes the maps of the programs that the sensor loaded"},
	"internal/condition": {"internal/document": "a condition that does not compile is reported at its place in the document"},
	"api":                {"internal/event": "the messages carry the vocabulary"},
	"internal/vex":       {"internal/event": "statements speak of findings in the vocabulary"},
	"internal/report":    {"internal/policy": "a report carries the image configuration that policy judges"},
	"internal/baseline": {
		"internal/report": "it takes what is accepted out of a report",
		"internal/policy": "and out of the facts that policy judges",
	},
	"internal/advice": {
		"internal/report": "advice is a part of the report that it is drawn from",
		"internal/vuln":   "the lowest version that fixes all is so by the order of its ecosystem",
	},
	"internal/inventory": {"internal/vuln": "packages and advisories of a distribution meet under the one name that vuln gives its release"},
	"internal/intel": {
		"internal/vuln":   "the bundle holds advisories in vuln's model",
		"internal/report": "matching tells of its gaps and freshness in the report's own types",
	},
}

// forbidden imports have a reason that no layer number expresses.
var forbidden = []struct{ from, to, reason string }{
	{"internal/agent", "internal/server", "agent and server meet in api/"},
	{"internal/agent", "internal/store", "the agent keeps no database"},
	{"internal/agent", "internal/web", "the agent has no console"},
	{"internal/agent", "internal/auth", "the agent knows no users"},
	{"internal/server", "internal/sensor", "the server needs no kernel"},
	{"internal/server", "internal/enforce", "the server needs no kernel"},
	{"internal/server", "bpf", "the server needs no kernel"},
	{"internal/server", "internal/agent", "agent and server meet in api/"},
}

// testOnly rooms are imported by tests and by their own programs alone.
var testOnly = []string{"internal/testenv", "internal/image/imagetest", "internal/inventory/inventorytest", "internal/inventory/rpm/rpmtest", "internal/store/storetest", "internal/intel/inteltest"}

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func TestImportsFollowTheLayerTable(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		if from == "" || isTestOnly(p.ImportPath) || strings.HasPrefix(p.ImportPath, module+"/bench") || strings.HasPrefix(p.ImportPath, module+"/demo") || strings.HasPrefix(p.ImportPath, module+"/attack") {
			continue
		}
		floor, known := layers[from]
		if !known {
			t.Errorf("%s is on no floor: add it to the layer table of arch_test.go and ARCHITECTURE.md", from)
			continue
		}
		for _, imported := range p.Imports {
			checkImport(t, from, floor, imported)
		}
	}
}

func checkImport(t *testing.T, from string, floor int, imported string) {
	t.Helper()
	to := room(imported)
	if to == "" || to == from {
		return
	}
	if isTestOnly(imported) {
		t.Errorf("%s imports %s, which is for tests only", from, imported)
		return
	}
	for _, f := range forbidden {
		if f.from == from && f.to == to {
			t.Errorf("%s must not import %s: %s", from, to, f.reason)
		}
	}
	if layers[to] < floor || sideways[from][to] != "" {
		return
	}
	t.Errorf("%s (floor %d) imports %s (floor %d): not downward, and arch_test.go gives no reason for it", from, floor, to, layers[to])
}

// TestSidewaysReasonsAreUsed keeps the table honest: no reason without its import.
func TestSidewaysReasonsAreUsed(t *testing.T) {
	used := map[[2]string]bool{}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			used[[2]string{room(p.ImportPath), room(imported)}] = true
		}
	}
	for from, targets := range sideways {
		for to := range targets {
			if !used[[2]string{from, to}] {
				t.Errorf("arch_test.go gives a reason for %s importing %s, which it does not: remove it", from, to)
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
			continue
		}
		var with []string
		for _, f := range p.GoFiles {
			if hasPackageComment(t, filepath.Join(p.Dir, f)) {
				with = append(with, f)
			}
		}
		if len(with) > 1 {
			t.Errorf("%s has %d package comments, in %s: keep one", p.ImportPath, len(with), strings.Join(with, ", "))
		}
	}
}

func hasPackageComment(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := bytes.Cut(text, []byte("\npackage "))
	lines := strings.Split(strings.TrimRight(string(before), "\n"), "\n")
	last := lines[len(lines)-1]
	return bytes.Contains(text, []byte("\npackage ")) && !bytes.HasPrefix(text, []byte("package ")) &&
		strings.HasPrefix(last, "//") && !strings.HasPrefix(last, "//go:") && !bytes.HasSuffix(before, []byte("\n")) ||
		strings.HasSuffix(last, "*/") && !bytes.HasSuffix(before, []byte("\n"))
}

// TestModulesAreReviewed compares the modules that are linked into the binary
// with deps.txt, so that a new dependency is a reviewed line.
func TestModulesAreReviewed(t *testing.T) {
	linked := linkedModules(t)
	text, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	var reviewed []string
	for _, line := range strings.Split(string(text), "\n") {
		if name, _, _ := strings.Cut(line, " "); name != "" && !strings.HasPrefix(line, "#") {
			reviewed = append(reviewed, name)
		}
	}
	for _, m := range linked {
		if !slices.Contains(reviewed, m) {
			t.Errorf("%s is linked but not in deps.txt: review it and add it with its reason", m)
		}
	}
	for _, m := range reviewed {
		if !slices.Contains(linked, m) {
			t.Errorf("%s is in deps.txt but no longer linked: remove it", m)
		}
	}
}

// TestBuildTagsBringNoModules: what stands behind a tag may link a library of the
// distribution, and no module that deps.txt does not have anyway.
func TestBuildTagsBringNoModules(t *testing.T) {
	t.Setenv("CGO_ENABLED", "1")
	out := goCommand(t, "list", "-tags", "yara", "-f", "{{.CgoFiles}}", "./internal/malware")
	if !strings.Contains(out, "yara_cgo.go") {
		t.Errorf("the tag yara builds no file with cgo: %s", out)
	}
	plain, tagged := linkedModules(t), linkedModules(t, "-tags", "yara")
	if !slices.Equal(plain, tagged) {
		t.Errorf("with -tags yara the modules are\n%q\nwithout\n%q", tagged, plain)
	}
}

func linkedModules(t *testing.T, flags ...string) []string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}"}, flags...)
	var linked []string
	for m := range strings.FieldsSeq(goCommand(t, append(args, "./cmd/breakwater")...)) {
		if m != module && !slices.Contains(linked, m) {
			linked = append(linked, m)
		}
	}
	slices.Sort(linked)
	return linked
}

// TestNoCrowdedFiles holds the house rule of 800 lines for what people write.
func TestNoCrowdedFiles(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "dist") {
			return filepath.SkipDir
		}
		generated := strings.Contains(path, "_bpfel") || strings.Contains(path, ".gen.")
		if d.IsDir() || generated || !slices.Contains([]string{".go", ".c", ".h", ".ts", ".js", ".css"}, filepath.Ext(path)) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(text, []byte("\n")); n > 800 {
			t.Errorf("%s has %d lines: redesign before adding", path, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoExpressionIsCompiledAtStart: every process of ours, also the confined
// reader of each scan, would pay for it. sync.OnceValue compiles at first use.
func TestNoExpressionIsCompiledAtStart(t *testing.T) {
	for _, p := range packages(t) {
		if isTestOnly(p.ImportPath) {
			continue
		}
		for _, f := range p.GoFiles {
			name := filepath.Join(p.Dir, f)
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR && compiles(g) {
					t.Errorf("%s compiles a regular expression when the program starts: put it into sync.OnceValue", name)
				}
			}
		}
	}
}

// compiles says whether a declaration calls into package regexp, but for what
// stands in a function that is called later.
func compiles(d ast.Node) (found bool) {
	ast.Inspect(d, func(n ast.Node) bool {
		if _, later := n.(*ast.FuncLit); later {
			return false
		}
		if s, ok := n.(*ast.SelectorExpr); ok && strings.Contains(s.Sel.Name, "Compile") {
			x, ok := s.X.(*ast.Ident)
			found = found || ok && x.Name == "regexp"
		}
		return true
	})
	return found
}

// room is the table's name for a package's room, "" for packages of others.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	parts := strings.Split(rest, "/")
	if parts[0] == "internal" || parts[0] == "cmd" {
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	return parts[0]
}

func isTestOnly(path string) bool {
	for _, p := range testOnly {
		if rest, ok := strings.CutPrefix(path, module+"/"+p); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

func packages(t *testing.T) []pkg {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(goCommand(t, "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles", "./...")))
	var all []pkg
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
