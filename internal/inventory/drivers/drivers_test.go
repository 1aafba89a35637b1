package drivers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
)

// TestEveryKindIsAskedFor names one file of every kind of evidence that
// docs/packages.md lists, and files beside them that are none.
func TestEveryKindIsAskedFor(t *testing.T) {
	e := drivers.All(inventory.Key{1})
	plain := inventory.Info{Size: 5000}
	for _, path := range strings.Fields(`
		var/lib/dpkg/status
		a/node_modules/b/package.json a/.yarn/cache/b-npm-1.zip a/package-lock.json a/npm-shrinkwrap.json a/yarn.lock a/pnpm-lock.yaml a/bun.lock
		a/b-1.dist-info/METADATA a/b.egg-info a/b.egg-info/PKG-INFO a/b.egg a/requirements.txt a/Pipfile.lock a/poetry.lock a/uv.lock a/pdm.lock a/pylock.toml
		opt/conda/conda-meta/a.json a/environment.yml a/conda-lock.yml
		a/specifications/b.gemspec a/Gemfile.lock a/gems.locked
		a/vendor/composer/installed.json a/composer.lock
		a/b.deps.json a/packages.lock.json a/packages.config a/b.csproj
		a/Cargo.lock a/go.mod
		a/b.jar a/b.war a/b.ear a/gradle.lockfile a/buildscript-gradle.lockfile a/build.sbt.lock a/pom.xml
		a/Package.resolved a/Podfile.lock a/pubspec.lock a/ebin/b.app a/mix.lock a/rebar.lock a/conan.lock
		a/package.conf.d/b.conf a/stack.yaml.lock a/cabal.project.freeze
		a/library/b/DESCRIPTION a/renv.lock a/packages/B/c/Project.toml a/Manifest.toml
		luarocks/rocks-5.1/b/1-1/b-1-1.rockspec a/.meta/b-1/install.json opt/bitnami/a/.spdx-a.spdx
		wp-content/plugins/a/a.php wp-content/themes/a/style.css
		opt/java/release a/wp-includes/version.php a/releases/25/OTP_VERSION
		usr/lib/libcrypto.so.3 usr/lib/libz.so.1.2.13`) {
		if !e.Wants(path, plain) {
			t.Errorf("nobody wants %s", path)
		}
	}
	for _, path := range strings.Fields(`a/b-1-1.rockspec a/package.json a/b.json a/b.txt a/b.php a/style.css a/b.conf a/DESCRIPTION a/Project.toml
		usr/lib/libother.so.1 usr/bin/node etc/nginx a/METADATA var/lib/x`) {
		if e.Wants(path, plain) {
			t.Errorf("somebody wants %s", path)
		}
	}
}

// BenchmarkWants: what it costs to decide about every file of an image that
// has many.
func BenchmarkWants(b *testing.B) {
	e := drivers.All(inventory.Key{1})
	paths := make([]string, 0, 1000)
	for i := range 1000 {
		base := []string{"index.js", "README.md", "module.py", "header.h", "libx.so.1", "file.json", "data", "a.txt", "x.php", "main.conf"}[i%10]
		paths = append(paths, fmt.Sprintf("usr/share/some/folder/%d/%s", i, base))
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, path := range paths {
			if e.Wants(path, inventory.Info{Size: 5000, Executable: n%17 == 0}) {
				n++
			}
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(paths)), "ns/file")
}
