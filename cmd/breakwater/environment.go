package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes, everywhere.
const (
	exitOK          = 0 // passed
	exitRefused     = 1 // policy said no
	exitUsage       = 2 // wrong usage
	exitFailed      = 3 // could not do it
	exitUnreachable = 4 // server unreachable
)

const exitCodesHelp = `Exit codes: 0 passed, 1 policy said no, 2 wrong usage, 3 could not do it,
4 server unreachable.

Every flag --some-flag can be set by the environment variable BREAKWATER_SOME_FLAG.`

// environment is what a command may touch of the world around the process.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	data           string // --data
}

// dataDir is the one folder that holds all state.
func (e *environment) dataDir() (string, error) {
	if e.data != "" {
		return filepath.Abs(e.data)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/breakwater", nil
	}
	if dir := e.getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "breakwater"), nil
	}
	home := e.getenv("HOME")
	if home == "" {
		return "", errors.New("no data folder: neither --data, BREAKWATER_DATA, XDG_DATA_HOME nor HOME is set")
	}
	return filepath.Join(home, ".local", "share", "breakwater"), nil
}

// exitError is an error with the exit code it leads to.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// errSilent in an exitError: everything was said already.
var errSilent = errors.New("refused")

// failed marks err as "could not do it".
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitFailed, err: err}
}

// usage is a wrong-usage error.
func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// refused ends the command with "policy said no" after it printed why.
func refused() error { return &exitError{code: exitRefused, err: errSilent} }

// bindEnvironment gives every flag of every command its BREAKWATER_ variable:
// a flag on the command line wins, then the variable, then the default.
func bindEnvironment(root *cobra.Command, getenv func(string) string) {
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		var first error
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			name := "BREAKWATER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			value := getenv(name)
			if f.Changed || value == "" || first != nil {
				return
			}
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				first = usage("%s=%q: %v", name, value, err)
			}
		})
		return first
	}
}
