// Package purl makes packages with the one canonical package URL of their
// ecosystem, so that every driver names a package alike. Types, and what each
// makes of names, follow the package URL specification (ECMA-427); ecosystems
// are OSV's, where OSV has one.
//
// Names and versions come out of hostile files: a function returns the zero
// Package for one that is empty, longer than a bound, not UTF-8 or holds
// control characters.
package purl

import (
	"strings"
	"unicode/utf8"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
)

const maxLength = 512 // bytes of a name or version; Go's module paths are the longest real ones

// Append adds p unless it is the zero Package.
func Append(out []event.Package, p event.Package) []event.Package {
	if p.Name == "" {
		return out
	}
	return append(out, p)
}

// NPM is a package of npm, scope included in its name.
func NPM(name, version string) event.Package {
	namespace, base := "", name
	if name != "" && name[0] == '@' {
		namespace, base = cutLast(name)
	}
	return build("npm", packageurl.TypeNPM, name, version, namespace, base)
}

// PyPI is a Python distribution; its name is normalised as PEP 503 says.
func PyPI(name, version string) event.Package {
	name = normalise(name)
	return build("PyPI", packageurl.TypePyPi, name, version, "", name)
}

// normalise: lower case, and runs of "-", "_" and "." are one "-" (PEP 503).
func normalise(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	dash := false
	for i := range len(name) {
		c := name[i]
		if c == '-' || c == '_' || c == '.' {
			dash = true
			continue
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Maven is an artifact; its name in advisories is "group:artifact". An
// artifact whose group nobody states has none, and matches no advisory.
func Maven(group, artifact, version string) event.Package {
	name := artifact
	if group != "" {
		name = group + ":" + artifact
	}
	if artifact == "" || strings.ContainsAny(artifact, "/: ") || strings.ContainsAny(group, "/: ") {
		return event.Package{}
	}
	return build("Maven", packageurl.TypeMaven, name, version, group, artifact)
}

// Gem is a Ruby gem; platform is "" or "ruby" for one without native code.
func Gem(name, version, platform string) event.Package {
	if platform == "" || platform == "ruby" {
		return build("RubyGems", packageurl.TypeGem, name, version, "", name)
	}
	return build("RubyGems", packageurl.TypeGem, name, version, "", name, "platform", platform)
}

// Composer is a PHP package, vendor/name.
func Composer(name, version string) event.Package {
	name = strings.ToLower(name)
	namespace, base := cutLast(name)
	if namespace == "" {
		return event.Package{}
	}
	return build("Packagist", packageurl.TypeComposer, name, version, namespace, base)
}

// Cargo is a Rust crate.
func Cargo(name, version string) event.Package {
	return build("crates.io", packageurl.TypeCargo, name, version, "", name)
}

// Go is a Go module with its version as Go writes it (v1.2.3), or the standard
// library as "stdlib", whose versions have no "v" in the Go vulnerability
// database.
func Go(path, version string) event.Package {
	namespace, base := cutLast(path)
	return build("Go", packageurl.TypeGolang, path, version, namespace, base)
}

// NuGet is a .NET package. Names differ in case only for people; NuGet takes
// them alike.
func NuGet(name, version string) event.Package {
	return build("NuGet", packageurl.TypeNuget, name, version, "", name)
}

// Swift is a Swift package by the address of its repository:
// https://github.com/apple/swift-nio.git is github.com/apple/swift-nio.
func Swift(address, version string) event.Package {
	name := address
	if _, rest, ok := strings.Cut(name, "://"); ok {
		name = rest
	} else if user, rest, ok := strings.Cut(name, "@"); ok && !strings.Contains(user, "/") {
		name = strings.Replace(rest, ":", "/", 1) // git@host:owner/name.git
	}
	if host, rest, ok := strings.Cut(name, "/"); ok {
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		name = strings.ToLower(host) + "/" + strings.TrimSuffix(strings.TrimSuffix(rest, "/"), ".git")
	}
	namespace, base := cutLast(name)
	if namespace == "" || base == "" {
		return event.Package{}
	}
	return build("SwiftURL", packageurl.TypeSwift, name, version, namespace, base)
}

// Pub is a Dart package.
func Pub(name, version string) event.Package {
	return build("Pub", packageurl.TypePub, name, version, "", name)
}

// Hex is an Erlang or Elixir package.
func Hex(name, version string) event.Package {
	name = strings.ToLower(name)
	return build("Hex", packageurl.TypeHex, name, version, "", name)
}

// Conan is a C or C++ package of Conan; user and channel may be empty.
func Conan(name, version, user, channel string) event.Package {
	var qualifiers []string
	if user != "" && channel != "" {
		qualifiers = []string{"channel", channel, "user", user}
	}
	return build("ConanCenter", packageurl.TypeConan, name, version, "", name, qualifiers...)
}

// Hackage is a Haskell package.
func Hackage(name, version string) event.Package {
	return build("Hackage", packageurl.TypeHackage, name, version, "", name)
}

// CRAN is an R package.
func CRAN(name, version string) event.Package {
	return build("CRAN", packageurl.TypeCran, name, version, "", name)
}

// Julia is a Julia package; its purl needs the package's UUID.
func Julia(name, version, uuid string) event.Package {
	return build("Julia", packageurl.TypeJulia, name, version, "", name, "uuid", uuid)
}

// Conda is a package of a Conda channel; build and subdir may be empty. OSV has
// no such ecosystem.
func Conda(name, version, buildID, subdir string) event.Package {
	var qualifiers []string
	if buildID != "" {
		qualifiers = append(qualifiers, "build", buildID)
	}
	if subdir != "" {
		qualifiers = append(qualifiers, "subdir", subdir)
	}
	return build("conda", packageurl.TypeConda, strings.ToLower(name), version, "", strings.ToLower(name), qualifiers...)
}

// CocoaPods is a pod, without its subspec. OSV has no such ecosystem.
func CocoaPods(name, version string) event.Package {
	return build("CocoaPods", packageurl.TypeCocoapods, name, version, "", name)
}

// CPAN is a Perl distribution; author may be empty. OSV has no such ecosystem.
func CPAN(author, name, version string) event.Package {
	return build("CPAN", packageurl.TypeCpan, name, version, strings.ToUpper(author), name)
}

// LuaRocks is a rock, with its revision in the version; the package URL has its
// name in lower case. OSV has no such ecosystem.
func LuaRocks(name, version string) event.Package {
	return build("LuaRocks", "luarocks", name, version, "", strings.ToLower(name))
}

// Bitnami is a component that Bitnami built.
func Bitnami(name, version, arch string) event.Package {
	var qualifiers []string
	if arch != "" {
		qualifiers = []string{"arch", arch}
	}
	p := build("Bitnami", packageurl.TypeBitnami, strings.ToLower(name), version, "", strings.ToLower(name), qualifiers...)
	if p.Name != "" {
		p.Arch = arch
	}
	return p
}

// Program is a program that no package manager brought. Where Bitnami's
// database has advisories for the upstream program, ecosystem is "Bitnami" and
// name the one used there; its purl stays generic, for Bitnami did not build it.
func Program(ecosystem, name, generic, version string) event.Package {
	return build(ecosystem, packageurl.TypeGeneric, name, version, "", generic)
}

// WordPress is a plugin or theme of WordPress, by its folder: plugin/akismet.
// OSV has no such ecosystem.
func WordPress(kind, slug, version string) event.Package {
	return build("WordPress", packageurl.TypeWORDPRESS, kind+"/"+slug, version, kind, slug)
}

// System is the package URL of a distribution's package: kind is deb, apk or
// rpm, id and release those of its os-release, either of which may be empty.
// Qualifiers are further keys and values; empty values are left out.
func System(kind, id, release, name, version, arch string, qualifiers ...string) string {
	u := packageurl.PackageURL{Type: kind, Namespace: id, Name: name, Version: version}
	distro := ""
	if id != "" && release != "" {
		distro = id + "-" + release
	}
	all := append([]string{"arch", arch, "distro", distro}, qualifiers...)
	for i := 0; i+1 < len(all); i += 2 {
		if all[i+1] != "" {
			u.Qualifiers = append(u.Qualifiers, packageurl.Qualifier{Key: all[i], Value: all[i+1]})
		}
	}
	_ = u.Normalize() // names that no purl can hold stay as they are
	return u.ToString()
}

func cutLast(name string) (namespace, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

func build(ecosystem, kind, name, version, namespace, base string, qualifiers ...string) event.Package {
	if base == "" || !Valid(name) || !Valid(version) {
		return event.Package{}
	}
	u := packageurl.PackageURL{Type: kind, Namespace: namespace, Name: base, Version: version}
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if !Valid(qualifiers[i+1]) {
			return event.Package{}
		}
		u.Qualifiers = append(u.Qualifiers, packageurl.Qualifier{Key: qualifiers[i], Value: qualifiers[i+1]})
	}
	if err := u.Normalize(); err != nil {
		return event.Package{}
	}
	return event.Package{Name: name, Version: version, Ecosystem: ecosystem, PURL: u.ToString()}
}

// Valid says whether s can be a name or a version.
func Valid(s string) bool {
	if s == "" || len(s) > maxLength || s[0] == ' ' || s[len(s)-1] == ' ' || s[0] == '/' || s[len(s)-1] == '/' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}
