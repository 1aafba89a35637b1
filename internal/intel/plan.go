package intel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/intel/feed"
)

// DefaultEcosystems are those that the inventory of this version finds and
// whose data everybody may use. From a mirror those are taken that it has.
func DefaultEcosystems() []string {
	list := []string{"AlmaLinux", "Bitnami", "CRAN", "ConanCenter", "Go", "Hackage", "Hex", "Julia", "Maven", "NuGet", "Packagist",
		"Photon OS", "Pub", "PyPI", "Rocky Linux", "RubyGems", "SwiftURL", "crates.io", "npm"}
	for _, d := range distributions() {
		if !d.restricted {
			list = append(list, d.name)
		}
	}
	slices.Sort(list)
	return list
}

// distribution has a publisher of its own; the others' data come by OSV.
type distribution struct {
	name       string
	restricted bool // not by default
	sources    func(addresses) []source
}

func distributions() []distribution {
	return []distribution{
		{"Debian", false, func(at addresses) []source { return []source{debianSource(at)} }},
		{"Ubuntu", false, ubuntuSources},
		{"Alpine", false, alpineSources},
		{"Red Hat", false, redhatSources},
		{"SUSE", false, suseSources},
		{"openSUSE", false, openSUSESources},
		{"Oracle Linux", false, oracleSources},
		{"Amazon Linux", false, amazonSources},
		{"Azure Linux", false, azureSources},
		{"Wolfi", true, func(at addresses) []source { return wolfiSources(at, "Wolfi") }},
		{"Chainguard", true, func(at addresses) []source { return wolfiSources(at, "Chainguard") }},
	}
}

// sources lists what to take up, in a fixed order.
func (b *builder) sources(ctx context.Context) ([]source, error) {
	offered, offerErr := b.offered(ctx)
	wanted, chosen, err := b.wanted(offered, offerErr)
	if err != nil {
		return nil, err
	}
	list := append([]source{kevSource(b.at), epssSource(b.at)}, nvdSources(b.at, b.Now())...)
	for _, ecosystem := range wanted {
		if !feed.ValidEcosystem(ecosystem) {
			return nil, fmt.Errorf("ecosystem %q: not a name of an OSV ecosystem without a release, such as npm or Go", ecosystem)
		}
		more, err := b.sourcesOf(ecosystem, chosen, offered, offerErr)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	lists, err := listSources(b.Lists)
	if err != nil {
		return nil, err
	}
	list = append(list, lists...)
	switch {
	case b.Detections != "":
		list = append(list, detectionSource(b.Detections))
	case b.at.mirror != nil:
		s := detectionSource(place(b.at.mirror, "detections.tar.gz"))
		s.optional = true
		list = append(list, s)
	}
	return list, nil
}

// wanted are the ecosystems to take up; chosen says that the user named them,
// so that a missing one is an error.
func (b *builder) wanted(offered []string, offerErr error) (wanted []string, chosen bool, err error) {
	switch {
	case slices.Contains(b.Ecosystems, "all"):
		if offerErr != nil {
			return nil, false, fmt.Errorf("cannot find out what all ecosystems are: %w", offerErr)
		}
		wanted = append(DefaultEcosystems(), offered...)
	case len(b.Ecosystems) > 0:
		wanted, chosen = slices.Clone(b.Ecosystems), true
	default:
		wanted = DefaultEcosystems()
	}
	slices.Sort(wanted)
	return slices.Compact(wanted), chosen, nil
}

func (b *builder) sourcesOf(ecosystem string, chosen bool, offered []string, offerErr error) ([]source, error) {
	for _, d := range distributions() {
		if d.name != ecosystem {
			continue
		}
		list := d.sources(b.at)
		if chosen && len(list) == 0 {
			return nil, fmt.Errorf("ecosystem %q: its licence does not let everybody use the data; name a --source that mirrors them", ecosystem)
		}
		for i := range list { // one that was named, and has one file, must be there
			list[i].optional = len(list) > 1 || !chosen && (ecosystem != "Debian" || b.at.mirror != nil)
		}
		if ecosystem == "Debian" && slices.Contains(offered, "Debian") {
			list = append(list, ratingSource(b.at))
		}
		return list, nil
	}
	there := offerErr != nil && chosen || slices.Contains(offered, ecosystem)
	if !there && chosen {
		return nil, fmt.Errorf("ecosystem %q: %s does not offer it; it offers: %s", ecosystem, b.at.osv(), strings.Join(offered, ", "))
	}
	if !there && (offerErr == nil || b.at.mirror != nil && errors.Is(offerErr, errAbsent)) {
		return nil, nil
	}
	return []source{osvSource(b.at, ecosystem)}, nil
}

func (b *builder) offered(ctx context.Context) ([]string, error) {
	got, err := b.fetcher.get(ctx, b.at.osv()+"/ecosystems.txt", b.dir, 1<<20, Validator{}, nil)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(got.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = errors.Join(file.Close(), os.Remove(got.path)) }() // the scratch folder goes anyway
	return feed.Ecosystems(file)
}
