package scan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/image"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/secret"
)

// configured gives what an image's configuration alone decides: the report
// before its layers are looked into. Rules and checks take longer to load than
// all known layers, so it is kept too.
func configured(o *Options, img *image.Image) (*report.Report, error) {
	path := ""
	if o.Cache != nil && o.Look.Secrets { // what may hold secrets is not written down
		of, err := json.Marshal(img)
		if err != nil {
			return nil, err
		}
		path = o.Cache.name(string(of), ".config")
		var rep report.Report
		if o.Cache.read(path, &rep, new([]byte)) {
			return &rep, nil
		}
	}
	rep := &report.Report{
		Image:  event.Image{Digest: img.Digest, Platform: img.Platform, References: img.Tags},
		Config: configOf(&img.Config),
	}
	base := img.Config.BaseLayers()
	for i, l := range img.Layers {
		rep.Layers = append(rep.Layers, report.Layer{DiffID: l.DiffID, Step: l.Step, Base: i < base})
	}
	if err := addMisconfigurations(rep, &img.Config); err != nil {
		return nil, err
	}
	if o.Look.Secrets {
		if err := addConfigured(rep, &img.Config); err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
	}
	if path != "" {
		if err := o.Cache.write(path, rep, nil); err != nil {
			rep.Notes = append(rep.Notes, "what the configuration says was not kept for the next scan: "+err.Error())
		}
	}
	return rep, nil
}

// finder is made once: its rules never change.
var finder = sync.OnceValues(secret.New)

// addConfigured finds the secrets in an image's configuration: environment,
// labels and build steps. Then it takes them out of the report, which is
// stored and shown.
func addConfigured(rep *report.Report, c *image.Config) error {
	f, err := finder()
	if err != nil {
		return err
	}
	r := redaction{finder: f}
	rep.Config.Env = slices.Clone(rep.Config.Env)
	for i, v := range rep.Config.Env {
		name, _, _ := strings.Cut(v, "=")
		rep.Config.Env[i] = r.text(event.PlaceEnv, name, v)
	}
	rep.Config.Labels = maps.Clone(rep.Config.Labels)
	for _, name := range slices.Sorted(maps.Keys(rep.Config.Labels)) {
		rep.Config.Labels[name] = strings.TrimPrefix(r.text(event.PlaceLabel, name, name+"="+rep.Config.Labels[name]), name+"=")
	}
	for i, h := range c.History {
		r.text(event.PlaceHistory, strconv.Itoa(i), h.CreatedBy)
	}
	rep.Secrets = append(rep.Secrets, r.found...)
	if len(r.found) == 0 {
		return nil
	}
	// The same text stands in several places of the report.
	for i := range rep.Layers {
		rep.Layers[i].Step = r.without(event.PlaceHistory, rep.Layers[i].Step)
	}
	for _, words := range [][]string{rep.Config.Entrypoint, rep.Config.Cmd} {
		for i := range words {
			words[i] = r.without(event.PlaceHistory, words[i])
		}
	}
	return nil
}

// redaction collects secrets in texts, and takes them out.
type redaction struct {
	finder *secret.Finder
	found  []event.Secret
}

func (r *redaction) text(kind, name, text string) string {
	all := r.finder.Text(kind, text)
	for _, f := range all {
		f.Place.Kind, f.Place.Path, f.Place.Line = kind, name, 0
		r.found = append(r.found, f.Secret)
	}
	return redact(text, all)
}

func (r *redaction) without(kind, text string) string {
	return redact(text, r.finder.Text(kind, text))
}

// redact puts each rule's name in the place of its value. They are in order of
// the text and do not overlap.
func redact(text string, found []secret.Found) string {
	for _, f := range slices.Backward(found) {
		text = text[:f.Start] + "[secret: " + f.Rule + "]" + text[f.End:]
	}
	return text
}
