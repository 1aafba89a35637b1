package install

import (
	"fmt"
	"strings"
)

const diffContext = 3

// Diff shows a change of one file in the unified format; nil stands for a file
// that is not there.
func Diff(name string, before, after []byte) string {
	a, b := lines(before), lines(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	if head == len(a) && head == len(b) {
		return ""
	}
	from := max(0, head-diffContext)
	behind := min(tail, diffContext)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", title(name, before), title(name, after))
	fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(from, len(a)-tail+behind), span(from, len(b)-tail+behind))
	write := func(mark string, part []string) {
		for _, line := range part {
			out.WriteString(mark + line)
			if !strings.HasSuffix(line, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	write(" ", a[from:head])
	write("-", a[head:len(a)-tail])
	write("+", b[head:len(b)-tail])
	write(" ", a[len(a)-tail:len(a)-tail+behind])
	return out.String()
}

func title(name string, data []byte) string {
	if data == nil {
		return "/dev/null"
	}
	return name
}

func lines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	all := strings.SplitAfter(string(data), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// span is "start,count" of a hunk, counted from 1; an empty file starts at 0.
func span(from, to int) string {
	if to == from {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}
