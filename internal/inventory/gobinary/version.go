package gobinary

import (
	"runtime/debug"
	"strings"

	"golang.org/x/mod/semver"
)

// mainVersion is the version of the main module, or "" when nobody states it.
// What version control says (a commit and its time) is not a version: compared
// with advisories, v0.0.0-TIME-COMMIT is older than every release.
func mainVersion(bi *debug.BuildInfo) string {
	if bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	for _, s := range bi.Settings {
		if s.Key == "-ldflags" {
			return linked(s.Value, bi.Main.Path)
		}
	}
	return ""
}

// linked finds a version that -X set in a variable of the module which is
// called a version: -X main.version=v1.2.3. Two that differ are none.
func linked(flags, module string) (version string) {
	fields := strings.FieldsFunc(flags, func(r rune) bool { return strings.ContainsRune(" \t\"'", r) })
	for _, field := range fields {
		name, value, ok := strings.Cut(strings.TrimPrefix(field, "-X="), "=")
		i := strings.LastIndexByte(name, '.')
		if !ok || i < 0 || !own(name[:i], module) || !isVersion(strings.ToLower(name[i+1:])) {
			continue
		}
		if value != "" && value[0] != 'v' {
			value = "v" + value
		}
		switch {
		case !semver.IsValid(value) || strings.Count(value, ".") < 2:
		case version != "" && version != value:
			return ""
		default:
			version = value
		}
	}
	return version
}

func own(pkg, module string) bool {
	return pkg == "main" || pkg == module || strings.HasPrefix(pkg, module+"/")
}

func isVersion(variable string) bool {
	switch variable {
	case "version", "appversion", "buildversion", "gitversion", "gittag", "tag", "release", "semver", "versionstring", "programversion":
		return true
	}
	return false
}
