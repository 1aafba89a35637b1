package vex

import (
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// product is what a statement is about: an image, some packages of an image, or
// packages wherever they are.
type product struct {
	image *imageName
	pkg   *packageurl.PackageURL // nil: all packages of the image
}

// imageName names an image; empty parts are not asked about.
type imageName struct {
	digest     string // sha256:…
	repository string // registry.example/team/app, or only its last part
	tag        string
}

// identity is an image as statements may name it.
type identity struct {
	digests      map[string]bool
	repositories map[string]map[string]bool // → tags
}

// identify collects what an image is called. References without a registry are
// Docker Hub's.
func identify(image event.Image) identity {
	at := identity{digests: map[string]bool{image.Digest: image.Digest != ""}, repositories: map[string]map[string]bool{}}
	for _, ref := range image.References {
		name := parseReference(ref)
		if name.digest != "" {
			at.digests[name.digest] = true
		}
		if at.repositories[name.repository] == nil {
			at.repositories[name.repository] = map[string]bool{}
		}
		at.repositories[name.repository][name.tag] = true
	}
	return at
}

// parseReference reads name[:tag][@digest].
func parseReference(ref string) (n imageName) {
	rest, digest, _ := strings.Cut(ref, "@")
	n.digest = digest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.tag = rest[:i], rest[i+1:]
	}
	n.repository = normal(rest)
	return n
}

// normal gives names of Docker Hub their full form.
func normal(repository string) string {
	repository = strings.ToLower(strings.TrimSuffix(repository, "/"))
	host, _, ok := strings.Cut(repository, "/")
	switch {
	case !ok:
		return "docker.io/library/" + repository
	case host == "index.docker.io" || host == "registry-1.docker.io":
		return "docker.io" + repository[len(host):]
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return "docker.io/" + repository
	}
	return repository
}

// is says whether the image bears the name.
func (n *imageName) is(at *identity) bool {
	if n.digest != "" { // the digest is the image, whatever its names
		return at.digests[n.digest]
	}
	for repository, tags := range at.repositories {
		if repository == n.repository || !strings.Contains(n.repository, "/") && strings.HasSuffix(repository, "/"+n.repository) {
			if n.tag == "" || tags[n.tag] {
				return true
			}
		}
	}
	return false
}

// means says whether a package of an image is the product, or in it.
func (p *product) means(at *identity, pkg *event.Package) bool {
	if p.image != nil && !p.image.is(at) {
		return false
	}
	if p.pkg == nil {
		return p.image != nil
	}
	return matches(p.pkg, pkg)
}

// matches compares a package URL with a package: what the URL leaves out (its
// version, a qualifier) is not asked about. arch=source means all packages of
// that source package.
func matches(want *packageurl.PackageURL, pkg *event.Package) bool {
	have, err := packageurl.FromString(pkg.PURL)
	if err != nil || want.Type != have.Type || want.Namespace != have.Namespace {
		return false
	}
	name, version := have.Name, have.Version
	asked := want.Qualifiers.Map()
	if asked["arch"] == "source" || asked["arch"] == "src" {
		delete(asked, "arch")
		if pkg.Source != "" {
			name = pkg.Source
		}
		if pkg.SourceVersion != "" {
			version = pkg.SourceVersion
		}
	}
	if want.Name != name || want.Version != "" && want.Version != version {
		return false
	}
	given := have.Qualifiers.Map()
	for key, value := range asked {
		if given[key] != value {
			return false
		}
	}
	return true
}

// parseProduct reads one identifier of a product: a package URL, an image's
// digest or reference. ok is false for what is none.
func parseProduct(id string) (p product, ok bool) {
	if id == "" || len(id) > 2000 {
		return p, false
	}
	if strings.HasPrefix(id, "pkg:") {
		u, err := packageurl.FromString(id)
		if err != nil {
			return p, false
		}
		if u.Type == packageurl.TypeOCI || u.Type == packageurl.TypeDocker {
			return product{image: ociName(&u)}, true
		}
		return product{pkg: &u}, true
	}
	if strings.HasPrefix(id, "sha256:") && len(id) == len("sha256:")+64 {
		return product{image: &imageName{digest: id}}, true
	}
	if strings.Contains(id, "://") || strings.ContainsAny(id, " \t") || !strings.ContainsAny(id, ":/@") {
		return p, false
	}
	n := parseReference(id)
	return product{image: &n}, n.repository != ""
}

// ociName reads pkg:oci/NAME@DIGEST?repository_url=REGISTRY/PATH&tag=TAG, and
// pkg:docker/NAMESPACE/NAME@TAG.
func ociName(u *packageurl.PackageURL) *imageName {
	n := imageName{tag: u.Qualifiers.Map()["tag"]}
	if strings.HasPrefix(u.Version, "sha256:") {
		n.digest = u.Version
	} else if u.Version != "" {
		n.tag = u.Version
	}
	repository := u.Qualifiers.Map()["repository_url"]
	switch {
	case u.Type == packageurl.TypeDocker:
		n.repository = normal(strings.Trim(repository+"/"+strings.Trim(u.Namespace+"/"+u.Name, "/"), "/"))
	case repository == "":
		n.repository = strings.ToLower(u.Name)
	default:
		if i := strings.LastIndexByte(repository, '/'); i < 0 || repository[i+1:] != u.Name {
			repository = strings.TrimSuffix(repository, "/") + "/" + u.Name
		}
		n.repository = normal(repository)
	}
	return &n
}
