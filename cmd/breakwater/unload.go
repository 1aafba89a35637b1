package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/sensor"
)

func newUnloadCommand(env *environment) *cobra.Command {
	var pin string
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Take enforcement out of this host's kernel",
		Long: `Removes the programs and maps that the agent pinned. Until an agent starts again,
nothing is stopped and nothing is seen on this host. End the agent first.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if os.Geteuid() != 0 {
				return failed(errors.New("changing the kernel needs root: run it with sudo"))
			}
			if err := sensor.Remove(pin); err != nil {
				return failed(err)
			}
			fmt.Fprintln(env.stdout, "Nothing of Breakwater is in the kernel any more: this host is not guarded.")
			return nil
		},
	}
	cmd.Flags().StringVar(&pin, "pin", sensor.DefaultPin, "`folder` of a BPF file system that enforcement is pinned in")
	return cmd
}
