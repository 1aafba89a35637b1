package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/breakwater-sec/breakwater/internal/report"
)

// outputFlags say in which formats a scan is told, and where.
type outputFlags struct {
	format, output string
	reports        []string
	all            bool

	files []reportFile
}

// reportFile is one more report, as --report asks for it.
type reportFile struct {
	format report.Format
	path   string
}

func (o *outputFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.format, "format", "table", "of the report: "+formatNames())
	f.StringVar(&o.output, "output", "", "write the report to this file instead of standard output")
	f.StringArrayVar(&o.reports, "report", nil, "write one more report, as FORMAT=FILE; may be given several times")
	f.BoolVar(&o.all, "all", false, "in the table, list everything: each vulnerability, secret, package and gap")
}

func formatNames() string {
	var names []string
	for _, f := range report.Formats() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// formatsHelp is the part of the help that says who reads which format.
func formatsHelp() string {
	var b strings.Builder
	b.WriteString("Formats\n")
	for _, f := range report.Formats() {
		fmt.Fprintf(&b, "  %-11s for %s\n", f.Name, f.For)
	}
	return b.String()
}

// check reads the flags; nothing was scanned yet.
func (o *outputFlags) check() error {
	if _, err := report.FormatNamed(o.format); err != nil {
		return usage("scan: --format %v", err)
	}
	for _, r := range o.reports {
		name, path, ok := strings.Cut(r, "=")
		if !ok || path == "" {
			return usage("scan: --report %q is not FORMAT=FILE", r)
		}
		format, err := report.FormatNamed(name)
		if err != nil {
			return usage("scan: --report %v", err)
		}
		o.files = append(o.files, reportFile{format, path})
	}
	return nil
}

// write renders everything first, so that a file is only touched for a whole
// report.
func (o *outputFlags) write(env *environment, rep *report.Report) error {
	if err := stampTime(env, rep); err != nil {
		return err
	}
	format, err := report.FormatNamed(o.format)
	if err != nil {
		return err
	}
	all := append([]reportFile{{format, o.output}}, o.files...)
	rendered := make([]bytes.Buffer, len(all))
	for i, f := range all {
		if err := o.render(env, &rendered[i], f, rep); err != nil {
			return err
		}
	}
	for i, f := range all {
		if f.path == "" {
			_, err = env.stdout.Write(rendered[i].Bytes())
		} else {
			err = os.WriteFile(f.path, rendered[i].Bytes(), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *outputFlags) render(env *environment, w io.Writer, f reportFile, rep *report.Report) error {
	if f.format.Write != nil {
		return f.format.Write(w, rep)
	}
	look := report.Look{All: o.all}
	if f.path == "" && isTerminal(env.stdout) {
		look.Colour = env.getenv("NO_COLOR") == ""
		look.Width = terminalWidth(env.stdout)
	}
	return report.Table(w, rep, look)
}

// stampTime gives the report the time of SOURCE_DATE_EPOCH, so that the same
// image and intelligence make the same bytes (reproducible-builds.org). The
// verdict is that of today.
func stampTime(env *environment, rep *report.Report) error {
	epoch := env.getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 || seconds > 253402300799 {
		return fmt.Errorf("SOURCE_DATE_EPOCH=%q is not a number of seconds since 1970", epoch)
	}
	rep.Time = time.Unix(seconds, 0).UTC()
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth is in characters; 0 when it is not known.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
