package scan

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/breakwater-sec/breakwater/content"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/drivers"
	"github.com/breakwater-sec/breakwater/internal/inventory/osrelease"
	"github.com/breakwater-sec/breakwater/internal/policy"
	"github.com/breakwater-sec/breakwater/internal/report"
)

func engineOf(key inventory.Key) *inventory.Engine { return drivers.All(key) }

func printable(s string) string { return report.Printable(s) }

// assemble makes the part of the report that the image alone gives: its layers,
// read now or known before, laid over each other.
func assemble(o Options, key inventory.Key, img *image.Image, results []*layerResult, gaps []string) (*report.Report, error) {
	engine := engineOf(key)
	rep, err := configured(&o, img)
	if err != nil {
		return nil, err
	}
	rep.Gaps = slices.Concat(img.Gaps, gaps, rep.Gaps)
	layers, err := restore(engine, results)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		rep.Layers[i].Size, rep.Layers[i].Files = r.Size, r.Files
	}
	found := engine.Merge(layers)
	rep.Distro = report.Distro(found.Distro)
	lifetime, err := osrelease.ReadLifetime(content.Distributions(), content.DistributionsFile)
	if err != nil {
		return nil, err
	}
	rep.Distro.EndOfLife = lifetime.End(found.Distro.ID, found.Distro.Version)
	rep.Gaps = append(rep.Gaps, found.Gaps...)
	rep.Packages = found.Packages
	for i := range rep.Packages {
		p := &rep.Packages[i]
		p.Layer, p.Step = rep.Layers[p.LayerIndex].DiffID, rep.Layers[p.LayerIndex].Step
	}
	o.addFound(rep, results, layers)
	o.engines(rep)
	addLicenses(rep, results, layers)
	return rep, nil
}

// addFound puts what every kind found into the report. What several kinds look
// for was looked for when none of them failed.
func (o *Options) addFound(rep *report.Report, results []*layerResult, layers []*inventory.Layer) {
	var looked, failed []string
	if o.MalwareAway {
		failed = append(failed, event.LookedMalware)
	}
	for _, k := range o.look().wanted() {
		answered, larger := true, 0
		for i, r := range results {
			found := r.Found[k.name]
			found.Malware = append(slices.Clip(found.Malware), o.knownMalware(found.Hashes)...)
			addContent(rep, found, i, layers[i+1:])
			answered, larger = answered && !found.Failed, larger+found.Larger
		}
		if !answered {
			rep.Gaps = append(rep.Gaps, k.unanswered())
			failed = append(failed, k.looked())
		}
		if larger > 0 {
			rep.Gaps = append(rep.Gaps, o.larger(larger))
		}
		looked = append(looked, k.looked())
	}
	for _, name := range looked {
		if name != "" && !slices.Contains(failed, name) && !slices.Contains(rep.Looked, name) {
			rep.Looked = append(rep.Looked, name)
		}
	}
}

// restore makes layers of results, several at once.
func restore(engine *inventory.Engine, results []*layerResult) ([]*inventory.Layer, error) {
	layers := make([]*inventory.Layer, len(results))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range results {
		g.Go(func() (err error) {
			if layers[i], err = engine.Restore(r.inventory); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			return nil
		})
	}
	return layers, g.Wait()
}

// addContent puts what was found in layer i into the report. What a later
// layer removed stays: everybody who pulls the image has it.
func addContent(rep *report.Report, c event.Content, i int, above []*inventory.Layer) {
	place := func(p event.Place) event.Place {
		p.Layer, p.LayerIndex = rep.Layers[i].DiffID, i
		p.Deleted = inventory.Hidden(above, p.Path)
		return p
	}
	for _, m := range c.Malware {
		m.Place = place(m.Place)
		rep.Malware = append(rep.Malware, m)
	}
	for _, s := range c.Secrets {
		s.Place = place(s.Place)
		rep.Secrets = append(rep.Secrets, s)
	}
	for _, g := range c.Gaps {
		rep.Gaps = append(rep.Gaps, fmt.Sprintf("layer %d: %s", i, g))
	}
}

func configOf(c *image.Config) policy.ImageConfig {
	return policy.ImageConfig{
		User: c.Config.User, Env: c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
		Labels: c.Config.Labels, WorkingDir: c.Config.WorkingDir,
		ExposedPorts: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes),
	}
}

func keys(m map[string]struct{}) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
