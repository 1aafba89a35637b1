package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/detect"
)

// tryDetections checks a document of detections, and says how many it holds.
func tryDetections(name string, text []byte) (int, error) {
	rules, err := detect.LoadText(name, text)
	if err != nil {
		return 0, err
	}
	return len(rules.All()), rules.Check()
}

// readDetections puts files of detections together to one document.
func readDetections(paths []string) ([]byte, error) {
	var all []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, failed(err)
		}
		if len(all) > 0 {
			all = append(all, "\n---\n"...)
		}
		all = append(all, text...)
	}
	return all, nil
}

func newDetectionsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detections",
		Short: "Try detections before they are enabled",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usage("detections: one of test, replay is needed")
		},
	}
	cmd.AddCommand(newDetectionsTestCommand(env), newDetectionsReplayCommand(env))
	return cmd
}

func newDetectionsTestCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE…",
		Short: "Check detections and try them on their own examples",
		Args:  someFiles("test"),
		RunE: func(_ *cobra.Command, paths []string) error {
			failures := 0
			for _, path := range paths {
				text, err := os.ReadFile(path)
				if err != nil {
					return failed(err)
				}
				n, err := tryDetections(filepath.Base(path), text)
				if err != nil {
					failures++
					fmt.Fprintln(env.stderr, err)
					continue
				}
				fmt.Fprintf(env.stdout, "%s: %s, right\n", path, countOf(n, "detection"))
			}
			if failures > 0 {
				return refused()
			}
			return nil
		},
	}
}

func newDetectionsReplayCommand(env *environment) *cobra.Command {
	var h huntFlags
	cmd := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Show on which kept events detections would have fired",
		Long: `Holds detections against the events that agents keep, and shows on which ones they
would have fired: try a new detection on what really happened before it is enabled.

Files that only the new detection watches were not looked at, so that their
openings are in no store: such a detection shows nothing until it is enabled.`,
		Args: someFiles("replay"),
		RunE: func(cmd *cobra.Command, paths []string) error {
			text, err := readDetections(paths)
			if err != nil {
				return err
			}
			if _, err := tryDetections(strings.Join(paths, ", "), text); err != nil {
				return usage("%v", err)
			}
			return h.hunt(cmd.Context(), env, "", text)
		},
	}
	h.add(cmd)
	return cmd
}

func someFiles(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("detections %s: name at least one file of detections", command)
		}
		return nil
	}
}
