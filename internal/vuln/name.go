package vuln

import "strings"

// Name is the one spelling of a package's name in an ecosystem: that under
// which its advisories are kept and asked for. Ecosystems that take two
// spellings for one package publish both (GHSA says Django, PyPA django).
func Name(ecosystem, name string) string {
	switch ecosystem {
	case "PyPI": // PEP 503
		return python(name)
	case "NuGet", "Packagist", "Hex", "Bitnami":
		return strings.ToLower(name)
	}
	return name
}

func python(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return r == '_' || r == '.' || 'A' <= r && r <= 'Z' }) && !strings.Contains(name, "--") {
		return name
	}
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return strings.Join(parts, "-")
}
