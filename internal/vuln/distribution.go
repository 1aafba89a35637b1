package vuln

import (
	"regexp"
	"strings"
	"sync"
)

// Distribution is the one name by which packages of a distribution's release
// and advisories about them meet, from the release's own os-release: id
// (ID=), version (VERSION_ID=) and codename (VERSION_CODENAME=). It is "" for
// distributions that this program does not know. docs/intelligence.md has the
// table.
//
// Releases go by what the publisher's advisories tell apart: point releases and
// service updates are cut off, service packs are not.
func Distribution(id, version, codename string) string {
	major, _, _ := strings.Cut(version, ".")
	switch id {
	case "debian":
		return release("Debian", first(major, codename))
	case "ubuntu":
		return release("Ubuntu", version)
	case "alpine":
		return alpine(version)
	case "rhel", "centos":
		return release("Red Hat", major) // CentOS, Stream too, has no advisories of its own
	case "rocky":
		return release("Rocky Linux", major)
	case "almalinux":
		return release("AlmaLinux", major)
	case "ol":
		return release("Oracle Linux", major)
	case "amzn":
		if major == "2018" || major == "2017" {
			major = "1"
		}
		return release("Amazon Linux", major)
	case "photon":
		return release("Photon OS", major)
	case "azurelinux", "mariner":
		return release("Azure Linux", major)
	case "fedora":
		return release("Fedora", major)
	case "sles", "sled", "sle_hpc", "sles_sap", "sle-hpc":
		return release("SUSE", version)
	case "sle-micro", "sl-micro", "suse-microos":
		return release("SUSE", "Micro "+version)
	case "opensuse-leap":
		return release("openSUSE", "Leap "+version)
	case "opensuse-tumbleweed":
		return "openSUSE:Tumbleweed"
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	}
	return ""
}

// alpine names a branch; what is neither a release nor its candidate is edge.
func alpine(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 || strings.Contains(version, "_") {
		return "Alpine:edge"
	}
	return "Alpine:v" + parts[0] + "." + parts[1]
}

// release of a family; a family whose release is unknown goes by its name.
func release(family, version string) string {
	if version == "" || strings.HasSuffix(version, " ") {
		return family
	}
	return family + ":" + version
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Canonical turns an ecosystem's name as publishers write it (OSV's above all)
// into the name that [Distribution] gives; names of other ecosystems, and those
// of products that are no release of a distribution, stay as they are.
func Canonical(ecosystem string) string {
	family, rest, _ := strings.Cut(ecosystem, ":")
	switch family {
	case "Ubuntu":
		return strings.TrimSuffix(ecosystem, ":LTS")
	case "Red Hat":
		if v, ok := strings.CutPrefix(rest, "enterprise_linux:"); ok {
			v, _, _ = strings.Cut(v, ":")
			v, _, _ = strings.Cut(v, ".")
			return release(family, v)
		}
	case "SUSE":
		return suse(ecosystem, rest)
	case "Photon OS", "Azure Linux", "Oracle Linux", "Rocky Linux", "AlmaLinux", "Debian":
		major, _, _ := strings.Cut(rest, ".")
		return release(family, major)
	}
	return ecosystem
}

// susePack finds "15 SP5" in a product's name, with or without a suffix such as
// "-LTSS".
var susePack = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^|[ -])(\d{2})(?:[ -]SP(\d{1,2}))?(?:[ -]\D*)?$`) })

func suse(ecosystem, product string) string {
	if _, version, ok := strings.Cut(product, "Micro "); ok {
		return release("SUSE", "Micro "+version)
	}
	m := susePack().FindStringSubmatch(product)
	if m == nil {
		return ecosystem
	}
	if m[2] == "" {
		return "SUSE:" + m[1]
	}
	return "SUSE:" + m[1] + "." + m[2]
}
