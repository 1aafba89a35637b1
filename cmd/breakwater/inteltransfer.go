package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/intel"
)

func newIntelExportCommand(env *environment) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the bundle, or what changed since another, to a file",
		Long: `Write the bundle in use to FILE ("-" is standard output), for a host without
network: ` + "`breakwater intel import`" + ` takes it there.

--since VERSION writes only what changed since that bundle, which this host must
still keep; whoever imports it must have that bundle in use.`,
		Args: exactly(1, "intel export: name the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := env.dataDir()
			if err != nil {
				return failed(err)
			}
			write := func(w io.Writer) (intel.Manifest, error) {
				if since != "" {
					return intel.ExportDelta(cmd.Context(), data, since, w)
				}
				return intel.Export(cmd.Context(), data, w)
			}
			if args[0] == "-" {
				_, err := write(env.stdout)
				return failed(err)
			}
			m, err := writeWhole(args[0], write)
			if err != nil {
				return failed(err)
			}
			_, err = fmt.Fprintf(env.stdout, "intelligence bundle %s written to %s\n", m.Version, args[0])
			return failed(err)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "write only what changed since the bundle of this version")
	return cmd
}

// writeWhole writes a file that appears only when it is whole.
func writeWhole(path string, write func(io.Writer) (intel.Manifest, error)) (m intel.Manifest, err error) {
	file, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return m, err
	}
	m, err = write(file)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return m, errors.Join(err, os.Remove(path+".part"))
	}
	return m, os.Rename(path+".part", path)
}

func newIntelImportCommand(env *environment) *cobra.Command {
	var options intel.ImportOptions
	var key string
	cmd := &cobra.Command{
		Use:   "import FILE | oci://REGISTRY/REPOSITORY:TAG",
		Short: "Take in a bundle, a trivy-db, a Grype database or a list",
		Long: `Take in what a file or an artifact of a registry holds, told by its content:

  a bundle, or what changed      of intel export or push; it must be signed by the
                                 key that this host trusts (--key, once)
  a trivy-db (schema 2)          trivy.db or its archive; becomes the feed import/trivy
  a Grype database (schema 6)    vulnerability.db or its archive; import/grype
  a list                         hashes, addresses, networks, domains: plain, CSV or
                                 STIX 2.1; becomes the feed list/NAME (--name)

Imported feeds stay through updates; importing again replaces them, and
` + "`breakwater intel remove FEED`" + ` takes them out. Credentials for registries are
those of Docker's configuration.`,
		Args: exactly(1, "intel import: name a file, or oci://REGISTRY/REPOSITORY:TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options.From = args[0]
			return importIntel(cmd, env, options, key)
		},
	}
	cmd.Flags().StringVar(&options.Name, "name", "", "name of the feed that a list becomes")
	cmd.Flags().StringVar(&key, "key", "", "public key (PEM) to trust for bundles from now on: keys/intel.pub of the host that builds them")
	return cmd
}

func importIntel(cmd *cobra.Command, env *environment, options intel.ImportOptions, key string) error {
	data, err := env.dataDir()
	if err != nil {
		return failed(err)
	}
	if key != "" {
		print, err := intel.TrustFile(data, key)
		if err != nil {
			return failed(err)
		}
		fmt.Fprintf(env.stderr, "bundles signed by key %s are trusted\n", print)
	}
	options.Data, options.Program = data, version
	m, err := intel.Import(cmd.Context(), options)
	if err != nil {
		return failed(err)
	}
	_, err = fmt.Fprintf(env.stdout, "intelligence bundle %s\n", m.Version)
	return failed(err)
}

func newIntelRemoveCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "remove FEED",
		Short: "Take an imported feed out of the bundle",
		Args:  exactly(1, "intel remove: name an imported feed, such as import/trivy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importIntel(cmd, env, intel.ImportOptions{Remove: args[0]}, "")
		},
	}
}

func newIntelPushCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "push oci://REGISTRY/REPOSITORY:TAG",
		Short: "Send the bundle to a registry as an OCI artifact",
		Args:  exactly(1, "intel push: name oci://REGISTRY/REPOSITORY:TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := env.dataDir()
			if err != nil {
				return failed(err)
			}
			m, err := intel.Push(cmd.Context(), data, args[0], version)
			if err != nil {
				return failed(err)
			}
			_, err = fmt.Fprintf(env.stdout, "intelligence bundle %s pushed to %s\n", m.Version, args[0])
			return failed(err)
		},
	}
}

func newIntelPullCommand(env *environment) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "pull oci://REGISTRY/REPOSITORY:TAG",
		Short: "Take the bundle that intel push sent; only what changed, where that is enough",
		Args:  exactly(1, "intel pull: name oci://REGISTRY/REPOSITORY:TAG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[0], "oci://") {
				return usage("intel pull: %q: oci://REGISTRY/REPOSITORY:TAG is needed", args[0])
			}
			return importIntel(cmd, env, intel.ImportOptions{From: args[0]}, key)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "public key (PEM) to trust for bundles from now on: keys/intel.pub of the host that builds them")
	return cmd
}

// exactly wants n arguments.
func exactly(n int, otherwise string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("%s", otherwise)
		}
		return nil
	}
}
