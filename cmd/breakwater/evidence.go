package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/breakwater-sec/breakwater/internal/evidence"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func newIncidentsEvidenceCommand(env *environment) *cobra.Command {
	var flags clientFlags
	var output string
	cmd := &cobra.Command{
		Use:   "evidence ID",
		Short: "Fetch what was kept of an incident's story: a tar with a manifest and hashes",
		Long: `Fetches the evidence of an incident's story from its agent: the processes of the
container with the hashes of their programs, their open files and sockets, the file
that was dropped, the incidents, and all events of the container from 30 seconds
before to 30 seconds after. It is kept after the container is gone, of incidents of
medium severity or worse, until the agent needs the room.

manifest.json, the first file, lists all others with their SHA-256 and says what
could not be had; the command holds them against it. What was dropped may be
malicious, and may hold secrets: it is for administrators.`,
		Args: oneIncident("evidence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				output = "evidence-" + args[0] + ".tar"
			}
			c, err := openClient(env, flags)
			if err != nil {
				return err
			}
			m, size, err := fetchEvidence(cmd.Context(), c, args[0], output)
			if err != nil {
				return kept(err)
			}
			fmt.Fprintf(env.stdout, "%s: %d bytes, %s, all as the manifest says.\n", output, size, countOf(len(m.Entries), "file"))
			for _, f := range m.Dropped {
				fmt.Fprintln(env.stdout, report.Printable(fmt.Sprintf("  %s (%d bytes, %s): sha256 %s", f.Path, f.Size, f.Why, f.SHA256)))
			}
			for _, g := range m.Gaps {
				fmt.Fprintln(env.stdout, report.Printable("  missing: "+g))
			}
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write, which must not be there (default: evidence-ID.tar)")
	return cmd
}

// fetchEvidence writes the bundle to a file that is there whole and right, or not
// at all.
func fetchEvidence(ctx context.Context, c *client, id, output string) (m evidence.Manifest, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("/api/v1/incidents", id, "evidence").String(), nil)
	if err != nil {
		return m, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	patient := *c.http
	patient.Timeout = 0 // it may be large
	res, err := patient.Do(req)
	if err != nil {
		return m, 0, unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // its status says enough
		return m, 0, c.refusal(res.StatusCode, text)
	}
	if _, err := os.Lstat(output); err == nil {
		return m, 0, fmt.Errorf("%s is there already: name another file with --output", output)
	}
	tmp, err := os.CreateTemp(filepath.Dir(output), ".evidence-")
	if err != nil {
		return m, 0, err
	}
	defer os.Remove(tmp.Name()) // it was renamed
	defer tmp.Close()
	if size, err = io.Copy(tmp, res.Body); err != nil {
		return m, 0, fmt.Errorf("evidence did not come whole: %w", err)
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return m, 0, err
	}
	if m, err = evidence.Verify(tmp); err != nil {
		return m, 0, fmt.Errorf("evidence: %w", err)
	}
	return m, size, errors.Join(tmp.Sync(), os.Rename(tmp.Name(), output))
}
