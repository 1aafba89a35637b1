package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// mark begins every line that the guest's /init says itself.
const mark = "##guest## "

// Result is what one suite did in a guest.
type Result struct {
	Package string
	Passed  []string // tests and subtests
	Failed  []string
	Skipped []string // with the reason: "TestX: …"
	Output  string   // the suite's own output
	exit    int
	ended   bool
}

// Err says why the suite did not pass; nil when it did. A suite of which no
// test ran, or that never ended, did not pass.
func (r Result) Err() error {
	switch {
	case !r.ended:
		return fmt.Errorf("%s: the guest stopped before the tests ended", r.Package)
	case len(r.Failed) > 0:
		return fmt.Errorf("%s: failed: %s", r.Package, strings.Join(r.Failed, ", "))
	case r.exit != 0:
		return fmt.Errorf("%s: the test binary ended with status %d", r.Package, r.exit)
	case len(r.Passed) == 0 && len(r.Skipped) == 0:
		return fmt.Errorf("%s: no tests ran", r.Package)
	}
	return nil
}

// Trouble is the part of the output that belongs to tests that failed or never
// ended, and to no test at all.
func (r Result) Trouble() string {
	fine := map[string]bool{}
	for _, name := range r.Passed {
		fine[name] = true
	}
	for _, skipped := range r.Skipped {
		name, _, _ := strings.Cut(skipped, ":")
		fine[name] = true
	}
	var b strings.Builder
	quiet := false // what is printed now belongs to a test that was fine
	for line := range strings.Lines(r.Output) {
		said := strings.TrimLeft(line, " ")
		if words := strings.Fields(line); len(words) == 3 && words[0] == "===" {
			quiet = fine[words[2]]
		}
		if !quiet && !strings.HasPrefix(said, "--- PASS") && !strings.HasPrefix(said, "--- SKIP") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Parse reads a guest's console into one result per suite that began, and an
// error when the guest itself broke: a kernel panic, an /init that could not
// do its work.
func Parse(console io.Reader) ([]Result, error) {
	var (
		results []Result
		broken  []error
		output  strings.Builder
		open    bool
	)
	lines := bufio.NewScanner(console)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if _, said, ok := strings.Cut(line, mark); ok {
			word, rest, _ := strings.Cut(said, " ")
			switch word {
			case "begin":
				results, open = append(results, Result{Package: rest}), true
				output.Reset()
			case "end":
				if open {
					r := &results[len(results)-1]
					r.ended, r.exit = true, exitStatus(rest)
					r.Output, open = output.String(), false
				}
			case "broken":
				broken = append(broken, errors.New(rest))
			}
			continue
		}
		if kernelTrouble(line) {
			broken = append(broken, errors.New(strings.TrimSpace(line)))
		}
		if open {
			output.WriteString(line + "\n")
			results[len(results)-1].read(line)
		}
	}
	if open {
		results[len(results)-1].Output = output.String()
	}
	return results, errors.Join(append(broken, lines.Err())...)
}

// kernelTrouble: a panic, or an error in the kernel itself that it survived.
func kernelTrouble(line string) bool {
	for _, words := range []string{"Kernel panic", "BUG: ", "Oops: "} {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}

// exitStatus reads "PACKAGE STATUS"; what is not a number is a failure.
func exitStatus(s string) int {
	_, status, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(status)
	if err != nil {
		return -1
	}
	return n
}

// read takes one line of `go test -v` into the result.
func (r *Result) read(line string) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "--- ")
	if !ok {
		return
	}
	verdict, test, ok := strings.Cut(rest, ": ")
	if !ok {
		return
	}
	name, _, _ := strings.Cut(test, " ")
	switch verdict {
	case "PASS":
		r.Passed = append(r.Passed, name)
	case "FAIL":
		r.Failed = append(r.Failed, name)
	case "SKIP":
		r.Skipped = append(r.Skipped, name)
	}
}
