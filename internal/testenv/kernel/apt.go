package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// apt is Debian's package client with a state of its own, so that neither the
// machine's sources nor its package lists change.
type apt struct {
	dir     string
	updated bool
}

// debianKeyring signs what the sources hold; Debian and Ubuntu both carry it
// in the package debian-archive-keyring.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func (a *apt) run(ctx context.Context, dir, in, tool string, args ...string) (string, error) {
	own := []string{
		"-qq",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=/var/lib/dpkg/status",
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "APT::Sandbox::User=", // the cache folder is closed to apt's own user
		"-o", "Debug::NoLocking=1",
	}
	return command(ctx, dir, in, tool, append(own, args...)...)
}

func (a *apt) update(ctx context.Context) error {
	if a.updated {
		return nil
	}
	sources, err := debianSources(ctx)
	if err != nil {
		return err
	}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(sources), 0o644); err != nil {
		return err
	}
	_, err = a.run(ctx, "", "", "apt-get", "update")
	a.updated = err == nil
	return err
}

// debianSources derives the guests' package sources from the machine's own:
// the same Debian archive, in the suites that hold the kernels.
func debianSources(ctx context.Context) (string, error) {
	out, err := command(ctx, "", "", "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	return guestSources(out, exists(debianKeyring))
}

// guestSources reads lines of "URI RELEASE"; an archive counts as Debian's by
// the names of its path.
func guestSources(targets string, keyring bool) (string, error) {
	option := ""
	if keyring {
		option = "[signed-by=" + debianKeyring + "] "
	}
	var lines []string
	main := false
	seen := map[string]bool{}
	for _, line := range strings.Split(targets, "\n") {
		uri, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if uri == "" || seen[uri] {
			continue
		}
		seen[uri] = true
		switch path := strings.TrimRight(uri, "/"); {
		case strings.HasSuffix(path, "/debian-security"):
			lines = append(lines, "deb "+option+uri+" bookworm-security main")
		case strings.HasSuffix(path, "/debian"):
			main = true
			for _, suite := range []string{"bookworm", "bookworm-updates", "bookworm-backports"} {
				lines = append(lines, "deb "+option+uri+" "+suite+" main")
			}
		}
	}
	if !main {
		return "", errors.New("apt has no Debian archive among its sources (an address ending in /debian); add one, disabled by a pin if you like: guest kernels are Debian's")
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n", nil
}

// newest is the package with the highest version in its name.
func (a *apt) newest(ctx context.Context, pattern string) (string, error) {
	if err := a.update(ctx); err != nil {
		return "", err
	}
	out, err := a.run(ctx, "", "", "apt-cache", "search", "--names-only", pattern)
	if err != nil {
		return "", err
	}
	sorted, err := command(ctx, "", out, "sort", "--version-sort")
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSpace(sorted), "\n")
	name, _, _ := strings.Cut(names[len(names)-1], " ")
	if name == "" {
		return "", fmt.Errorf("apt's sources have no package that matches %s", pattern)
	}
	return name, nil
}

// download fetches one package without its dependencies.
func (a *apt) download(ctx context.Context, name string) (string, error) {
	if err := a.update(ctx); err != nil {
		return "", err
	}
	dir := filepath.Join(a.dir, "debs", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := a.run(ctx, dir, "", "apt-get", "download", name); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) == 0 {
		return "", fmt.Errorf("apt-get download %s left no package in %s", name, dir)
	}
	return debs[len(debs)-1], nil
}

// closure fetches a package of a suite with every dependency that the machine
// does not have installed in that version.
func (a *apt) closure(ctx context.Context, suite, name string) ([]string, error) {
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	archives := filepath.Join(a.dir, "cache", "archives")
	old, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return nil, err
	}
	for _, f := range old { // of an earlier try, perhaps of other versions
		if err := os.Remove(f); err != nil {
			return nil, err
		}
	}
	if _, err := a.run(ctx, "", "", "apt-get", "-y", "-t", suite, "--no-install-recommends", "--download-only", "install", name); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err == nil && len(debs) == 0 {
		err = fmt.Errorf("apt-get fetched nothing for %s", name)
	}
	return debs, err
}

// command runs a program in dir (empty: the current folder) and returns what it printed; an error carries what
// it complained about.
func command(ctx context.Context, dir, in, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
