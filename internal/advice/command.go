package advice

import (
	"regexp"
	"strings"
	"sync"
)

// pasteable is what a name or version may be made of to stand in a command
// that somebody pastes into a shell. Names come out of images, so they may
// have been chosen to hurt; characters that a shell reads are not among these,
// and neither is a leading dash.
var pasteable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9@][A-Za-z0-9@/._+:~-]{0,200}$`) })

// command updates the packages with the manager of their ecosystem; empty when
// there is none, or a name is not fit to be pasted.
func command(ecosystem string, names []string, versions map[string]string) string {
	for _, name := range names {
		if !pasteable().MatchString(name) || !pasteable().MatchString(versions[name]) {
			return ""
		}
	}
	first := names[0]
	base, _, _ := strings.Cut(ecosystem, ":")
	switch base {
	case "Debian", "Ubuntu":
		return "apt-get install -y --only-upgrade " + each(names, versions, "=", "")
	case "Alpine", "Wolfi", "Chainguard":
		return "apk add --no-cache " + each(names, versions, ">=", "'")
	case "Red Hat", "AlmaLinux", "Rocky Linux", "Oracle Linux", "Amazon Linux", "Fedora":
		return "dnf update -y " + each(names, versions, "-", "")
	case "Photon OS", "Azure Linux":
		return "tdnf update -y " + strings.Join(names, " ")
	case "SUSE", "openSUSE":
		return "zypper --non-interactive install " + each(names, versions, ">=", "'")
	case "Go":
		if first == "stdlib" || first == "toolchain" {
			return "build with Go " + versions[first] + " or newer"
		}
		return "go get " + first + "@v" + strings.TrimPrefix(versions[first], "v")
	case "Maven":
		return "set " + first + " to " + versions[first] + " in pom.xml or build.gradle"
	}
	if form := languages[base]; form != "" {
		return strings.NewReplacer("NAME", first, "VERSION", versions[first]).Replace(form)
	}
	return ""
}

var languages = map[string]string{
	"npm":       "npm install NAME@VERSION",
	"PyPI":      "pip install 'NAME>=VERSION'",
	"RubyGems":  "bundle update NAME --conservative",
	"crates.io": "cargo update -p NAME --precise VERSION",
	"Packagist": "composer require 'NAME:^VERSION'",
	"NuGet":     "dotnet add package NAME --version VERSION",
	"Hex":       "mix deps.update NAME",
	"Pub":       "dart pub upgrade NAME",
}

// each is "name=version …", in quotes where the operator is the shell's too.
func each(names []string, versions map[string]string, operator, quote string) string {
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = quote + name + operator + versions[name] + quote
	}
	return strings.Join(parts, " ")
}
