package testenv

import (
	"bytes"
	"context"
	"fmt"
)

// StartDocker starts a private engine for a program that is no test: the demo
// and the benchmarks. Close ends it.
func StartDocker(options ...DockerOption) (*Docker, error) { return startDocker(options...) }

// Close stops the engine and everything it runs, and removes its folder.
func (d *Docker) Close() { d.close() }

// ImportBusybox is BusyboxImage for programs that are no tests.
func (d *Docker) ImportBusybox(ctx context.Context) (string, error) {
	root, err := busyboxRoot()
	if err != nil {
		return "", fmt.Errorf("a busybox root (package busybox-static): %w", err)
	}
	cmd := d.Command(ctx, "import", "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin:/usr/bin", "-", busyboxName)
	cmd.Stdin = bytes.NewReader(root)
	if stdout, stderr, code := output(cmd); code != 0 {
		return "", fmt.Errorf("docker import of a busybox root: exit %d: %s%s", code, stdout, stderr)
	}
	return busyboxName, nil
}
