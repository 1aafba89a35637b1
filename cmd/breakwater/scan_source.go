package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/scan"
)

// scanTargets is the part of the scan command's help that says what can be named.
const scanTargets = `TARGET is one of
  NAME                    an image of an engine of this host (Docker, containerd,
                          Podman), or else of the registry that NAME names
  docker:NAME  containerd:NAME  podman:NAME  registry:NAME
                          an image there and nowhere else
  docker-archive:FILE     what ` + "`docker save`" + ` writes; a path that ends in .tar,
  oci-archive:FILE        .tar.gz or .tar.zst needs no prefix. With several images:
  oci-layout:FOLDER       FILE:NAME, FOLDER:NAME
  dir:FOLDER              a root file system
  host:                   this host: its packages and its engines
  sbom:FILE               a CycloneDX, SPDX or Syft document in JSON`

// sourceFlags say where images come from.
type sourceFlags struct {
	engine, platform, cache string
	noCache                 bool
	cacheSize               int64
	maxFiles, maxContent    int64
	containerd, storage     string
	ca, user, passwordFile  string
}

func (s *sourceFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.engine, "engine", scan.DefaultEngine, "socket of the Docker engine")
	f.StringVar(&s.containerd, "containerd", image.ContainerdSocket, "socket of containerd")
	f.StringVar(&s.storage, "storage", image.StorageRoot, "folder of Podman's and CRI-O's images")
	f.StringVar(&s.ca, "registry-ca", "", "file with certificates (PEM) to trust of registries, besides the system's and those in "+image.DockerCertDir)
	f.StringVar(&s.user, "registry-user", "", "user name for the registry (default: what docker login or podman login keep, and their credential helpers)")
	f.StringVar(&s.passwordFile, "registry-password-file", "", "file with the password or token of that user")
	f.StringVar(&s.platform, "platform", "", "of an image for several, the one for this os/arch[/variant] (default: this host's)")
	f.StringVar(&s.cache, "cache", "", "folder that keeps what layers hold, so that each is read once (default: the user's cache folder)")
	f.Int64Var(&s.cacheSize, "cache-size", scan.DefaultCache>>20, "megabytes that the cache may take")
	f.Int64Var(&s.maxFiles, "max-files", image.DefaultLimits().Entries, "files of one image that are read at most; beyond it, the scan fails")
	f.Int64Var(&s.maxContent, "max-content", image.DefaultLimits().Bytes>>30, "gigabytes of unpacked content that are read at most; beyond it, the scan fails")
	f.BoolVar(&s.noCache, "no-cache", false, "keep nothing, and read every layer")
}

// options puts the flags into o. A default cache that cannot be used is done
// without: it only saves time.
func (s *sourceFlags) options(env *environment, o *scan.Options) error {
	o.Engine, o.Containerd, o.Storage, o.Platform = s.engine, s.containerd, s.storage, s.platform
	if s.maxFiles < 1 || s.maxContent < 1 || s.maxContent > 1<<20 || s.cacheSize < 1 || s.cacheSize > 1<<30 {
		return usage("scan: --max-files, --max-content and --cache-size are at least 1, and not beyond reason")
	}
	o.Limits.Entries, o.Limits.Bytes = s.maxFiles, s.maxContent<<30
	registry, err := s.registry(o.Target)
	if err != nil {
		return err
	}
	if o.Registry = registry; s.noCache {
		return nil
	}
	dir := s.cache
	if dir == "" {
		if dir = env.cacheDir(); dir == "" {
			return nil
		}
	}
	cache, err := scan.OpenCache(dir, s.cacheSize<<20)
	if err != nil && s.cache == "" {
		return nil
	}
	o.Cache = cache
	return failed(err)
}

// isFor says why what was read is not for the platform that was asked for: who
// asks for one must not get the verdict on another. An index was asked already;
// an image alone and a folder are what they are. A configuration may leave the
// variant out.
func (s *sourceFlags) isFor(platform string) error {
	switch {
	case s.platform == "" || platform == s.platform || strings.HasPrefix(platform+"/", s.platform+"/"), strings.Count(platform, "/") == 1 && strings.HasPrefix(s.platform, platform+"/"):
		return nil
	case platform == "":
		return errors.New("does not say which platform it is for: leave --platform out")
	}
	return fmt.Errorf("is for %s alone, and not for %s", platform, s.platform)
}

func (s *sourceFlags) registry(target string) (*image.Registry, error) {
	o := image.RegistryOptions{Username: s.user, Keychain: s.user == "", CertDir: image.DockerCertDir}
	var err error
	if s.ca != "" {
		if o.CA, err = os.ReadFile(s.ca); err != nil {
			return nil, failed(err)
		}
	}
	if s.passwordFile != "" {
		password, err := os.ReadFile(s.passwordFile)
		if err != nil {
			return nil, failed(err)
		}
		o.Password = strings.TrimRight(string(password), "\r\n")
	}
	if (s.user == "") != (o.Password == "") {
		return nil, usage("scan: --registry-user and --registry-password-file belong together")
	}
	if s.user == "" {
		return image.NewRegistry(o), nil
	}
	t, err := scan.ParseTarget(target)
	if err != nil {
		return nil, failed(err)
	}
	if o.Host = t.Registry(); o.Host == "" {
		return nil, usage("scan: --registry-user is for the registry that the target names, and this one names none; use docker login")
	}
	return image.NewRegistry(o), nil
}

// cacheDir is the user's folder for what can be made again, "" without one.
func (e *environment) cacheDir() string {
	if dir := e.getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "breakwater", "layers")
	}
	if home := e.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "breakwater", "layers")
	}
	return ""
}
