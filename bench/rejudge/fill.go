package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel/inteltest"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
)

// The make of a fleet: applications with builds, on runtimes, on bases. Builds
// of one application differ in a few of its packages, every fifth in none.
const (
	buildsPerApp = 25
	runtimes     = 60
	bases        = 12 // patch levels of one distribution
	basePackages = 88 // as debian:12 has
)

// fill puts images into the store as an agent's reports, if it has none.
func fill(db *store.Store, images int) error {
	ctx := context.Background()
	if count, err := db.CountImages(ctx); err != nil || count.All > 0 {
		return err
	}
	begin := time.Now()
	fleet := newFleet()
	batch := api.Batch{Version: api.Version, Agent: "bench", Epoch: "1"}
	for i := range images {
		body, err := json.Marshal(fleet.image(i))
		if err != nil {
			return err
		}
		batch.Records = append(batch.Records, api.Record{Sequence: uint64(i + 1), Kind: api.RecordReport, Key: fmt.Sprint(i), Body: body})
		if len(batch.Records) == 2000 || i == images-1 {
			if _, err := db.Ingest(ctx, batch); err != nil {
				return err
			}
			batch.Records = nil
		}
	}
	fmt.Printf("stored in            %8.0f s\n", time.Since(begin).Seconds())
	return nil
}

type fleet struct {
	random *rand.Rand
	bases  [][]event.Package
	tools  [][]event.Package // of runtimes
	app    []event.Package
	draws  map[string]*rand.Zipf
}

func newFleet() *fleet {
	f := &fleet{random: rand.New(rand.NewPCG(5, 6)), draws: map[string]*rand.Zipf{}}
	for _, e := range ecosystems() {
		f.draws[e.name] = rand.NewZipf(f.random, 1.1, 200, e.names)
	}
	for level := range bases {
		var list []event.Package
		for i := range basePackages {
			// A level brings news of some of them.
			list = append(list, debian(inBase(i), (level*7+i)/13))
		}
		f.bases = append(f.bases, list)
	}
	for r := range runtimes {
		var list []event.Package
		for range 20 + f.random.IntN(100) {
			list = append(list, debian(int(f.draws["Debian"].Uint64()*7919)%9000, r%4))
		}
		f.tools = append(f.tools, list)
	}
	return f
}

// inBase is the i-th package of the bases, among those with few advisories and
// with many.
func inBase(i int) int { return 40 + i*37%9000 }

type ecosystem struct {
	name, purl string
	names      uint64
}

func ecosystems() []ecosystem {
	return []ecosystem{{"npm", "npm", 300_000}, {"PyPI", "pypi", 90_000}, {"Go", "golang", 40_000}, {"Maven", "maven", 60_000}, {"Debian", "deb/debian", 20_000}}
}

func debian(n, level int) event.Package {
	name := inteltest.Name("Debian", n)
	// Fixes are in 0 to 8: distributions are kept, so that few are missing.
	version := fmt.Sprintf("%d.%d.%d-%d", 6+(n*31)%4, (n*17+level)%40, level%20, 1+n%4)
	return event.Package{Name: name, Version: version, Ecosystem: "Debian:12", PURL: "pkg:deb/debian/" + name + "@" + version, Arch: "amd64", Path: "var/lib/dpkg/status"}
}

func (f *fleet) dependency(e ecosystem) event.Package {
	n := int(f.draws[e.name].Uint64()*7919) % int(e.names)
	name := inteltest.Name(e.name, n)
	v := (n*31 + f.random.IntN(12)) % 997
	version := fmt.Sprintf("%d.%d.%d", 3+v%10, v%37, v%19)
	return event.Package{Name: name, Version: version, Ecosystem: e.name, PURL: "pkg:" + e.purl + "/" + name + "@" + version, Path: "app/lib/" + name}
}

// image is the n-th build of the fleet.
func (f *fleet) image(n int) report.Report {
	app, build := n/buildsPerApp, n%buildsPerApp
	e := ecosystems()[app%4]
	switch {
	case build == 0:
		f.app = nil
		for range 20 + f.random.IntN(180) {
			f.app = append(f.app, f.dependency(e))
		}
	case build%5 != 0:
		for range 1 + f.random.IntN(4) {
			f.app[f.random.IntN(len(f.app))] = f.dependency(e)
		}
	}
	rep := report.Report{
		Schema: report.SchemaVersion, Tool: "bench", Time: time.Unix(1_790_000_000+int64(n), 0).UTC(), Integrity: report.Hashed,
		Image:  event.Image{Digest: fmt.Sprintf("sha256:%064x", n+1), Platform: "linux/amd64", References: []string{fmt.Sprintf("registry.example/team-%d/app-%d:build-%d", app%40, app, build)}},
		Config: policy.ImageConfig{User: "app", Entrypoint: []string{"/app/start"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "APP_ENV=production"}, Labels: map[string]string{"org.opencontainers.image.revision": fmt.Sprintf("%040x", n)}},
		Looked: []string{event.LookedSecrets, event.LookedMisconfigurations},
	}
	if app%10 < 7 { // the others are made of nothing but themselves
		rep.Distro = report.Distro{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian 12"}
		rep.Packages = append(rep.Packages, f.bases[(app+build/9)%bases]...)
		rep.Packages = append(rep.Packages, f.tools[app%runtimes]...)
	}
	rep.Packages = append(rep.Packages, f.app...)
	return rep
}
