package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/resource"
	"github.com/breakwater-sec/breakwater/internal/sensor"
)

func newUnloadCommand(env *environment) *cobra.Command {
	var pin string
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Take enforcement out of this host's kernel",
		Long: `Removes the programs and maps that the agent pinned, and the limits that it holds
throttled containers to. Until an agent starts again,
nothing is stopped and nothing is seen on this host. End the agent first.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if os.Geteuid() != 0 {
				return failed(errors.New("changing the kernel needs root: run it with sudo"))
			}
			if err := errors.Join(sensor.Remove(pin), unthrottle(env)); err != nil {
				return failed(err)
			}
			fmt.Fprintln(env.stdout, "Nothing of Breakwater is in the kernel any more: this host is not guarded.")
			return nil
		},
	}
	cmd.Flags().StringVar(&pin, "pin", sensor.DefaultPin, "`folder` of a BPF file system that enforcement is pinned in")
	return cmd
}

// unthrottle gives throttled containers back what they had.
func unthrottle(env *environment) error {
	data, err := env.dataDir()
	if err != nil {
		return err
	}
	path := filepath.Join(data, resource.ThrottleFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	groups, err := resource.OpenCgroups()
	if err != nil {
		return err
	}
	throttle, err := resource.OpenThrottle(groups, path)
	return errors.Join(err, throttle.LiftAll())
}
