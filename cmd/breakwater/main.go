// Command breakwater is the whole product in one binary: server, agent, gate
// and the command line. Flags, environment variables and exit codes live only
// in this package; everything else is in internal/.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/scan"
)

// version is set by the linker.
var version = "dev"

func main() {
	if scan.IsReader(os.Args) { // the confined child of a scan, see internal/confine
		os.Exit(scan.Reader(os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	env := &environment{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	root := newRootCommand(env)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitUsage // cobra's own errors are wrong usage
	var failed *exitError
	if errors.As(err, &failed) {
		code = failed.code
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(stderr, "breakwater: %v\n", err)
	}
	return code
}

func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:           "breakwater",
		Short:         "Container security from build to run time",
		Long:          "Breakwater decides which images may run, who may run them and how, and what\nthey may do once they run; and it stops what it was told to stop, in the kernel.\n\n" + exitCodesHelp,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&env.data, "data", "", "data folder (default: /var/lib/breakwater for root, else the XDG data folder)")
	root.AddCommand(commands(env)...)
	bindEnvironment(root, env.getenv)
	return root
}

// commands is the explicit list: one line a command, one file a command.
func commands(env *environment) []*cobra.Command {
	return []*cobra.Command{
		newUpCommand(env),
		newServerCommand(env),
		newAgentCommand(env),
		newAgentsCommand(env),
		newTokensCommand(env),
		newUnloadCommand(env),
		newCanaryCommand(env),
		newDoctorCommand(env),
		newIntelCommand(env),
		newGateCommand(env),
		newPolicyCommand(env),
		newScanCommand(env),
		newIncidentsCommand(env),
		newEventsCommand(env),
		newDetectionsCommand(env),
		newCheckCommand(env),
	}
}
