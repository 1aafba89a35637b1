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
	"github.com/breakwater-sec/breakwater/internal/policy"
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
	if img.Digest == "" { // a folder or a host: there is no configuration to be wrong
		rep.Looked = append(rep.Looked, event.LookedMisconfigurations)
	} else if err := addMisconfigurations(rep, &img.Config); err != nil {
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
// labels, commands and build steps. Then it takes them out of the report, which is
// stored and shown: a value that was found at one place, out of all of them.
func addConfigured(rep *report.Report, c *image.Config) error {
	f, err := finder()
	if err != nil {
		return err
	}
	r := redaction{finder: f, values: map[string]string{}}
	for _, v := range rep.Config.Env {
		name, _, _ := strings.Cut(v, "=")
		r.find(event.PlaceEnv, name, v)
	}
	for _, name := range slices.Sorted(maps.Keys(rep.Config.Labels)) {
		r.find(event.PlaceLabel, name, name+"="+rep.Config.Labels[name])
	}
	for _, x := range r.commands(&rep.Config) {
		r.find(event.PlaceCommand, x.name, strings.Join(*x.words, " "))
	}
	for i, h := range c.History {
		r.find(event.PlaceHistory, strconv.Itoa(i), h.CreatedBy)
	}
	rep.Secrets = append(rep.Secrets, r.found...)
	r.clean(rep)
	return nil
}

// command is a list of words that the image runs.
type command struct {
	name  string
	words *[]string
}

func (r *redaction) commands(c *policy.ImageConfig) []command {
	return []command{{"entrypoint", &c.Entrypoint}, {"cmd", &c.Cmd}}
}

// redaction collects secrets in texts, and takes them out.
type redaction struct {
	finder *secret.Finder
	found  []event.Secret
	values map[string]string // that were found → their rule
}

// A value is taken out wherever it stands from a length on, below which it would
// be a part of many words, and as long as there are not too many to look for.
const (
	shortest   = 6
	mostValues = 500
)

func (r *redaction) find(kind, name, text string) {
	for _, f := range r.finder.Text(kind, text) {
		if value := text[f.Start:f.End]; len(value) >= shortest && len(r.values) < mostValues {
			r.values[value] = f.Rule
		}
		f.Place.Kind, f.Place.Path, f.Place.Line = kind, name, 0
		r.found = append(r.found, f.Secret)
	}
}

// clean takes the values out of all that the report says of a configuration.
func (r *redaction) clean(rep *report.Report) {
	longest := slices.SortedFunc(maps.Keys(r.values), func(a, b string) int { return len(b) - len(a) })
	without := func(kind, text string) string {
		text = redact(text, r.finder.Text(kind, text))
		for _, value := range longest {
			text = strings.ReplaceAll(text, value, mark(r.values[value]))
		}
		return text
	}
	c := &rep.Config
	all := func(kind string, words []string) []string {
		words = slices.Clone(words)
		for i := range words {
			words[i] = without(kind, words[i])
		}
		return words
	}
	c.Env, c.Labels = all(event.PlaceEnv, c.Env), maps.Clone(c.Labels)
	for name, value := range c.Labels {
		c.Labels[name] = strings.TrimPrefix(without(event.PlaceLabel, name+"="+value), name+"=")
	}
	for _, x := range r.commands(c) {
		*x.words = all(event.PlaceCommand, redactWords(*x.words, r.finder))
	}
	for i := range rep.Layers {
		rep.Layers[i].Step = without(event.PlaceHistory, rep.Layers[i].Step)
	}
	for i := range rep.Misconfigurations {
		m := &rep.Misconfigurations[i]
		m.Message = without(event.PlaceHistory, m.Message)
	}
}

func mark(rule string) string { return "[secret: " + rule + "]" }

// redact puts each rule's name in the place of its value. They are in order of
// the text and do not overlap.
func redact(text string, found []secret.Found) string {
	for _, f := range slices.Backward(found) {
		text = text[:f.Start] + mark(f.Rule) + text[f.End:]
	}
	return text
}

// redactWords takes out of words what is found in all of them together: a value
// may stand in another word than the option that it is given to, or in several.
func redactWords(words []string, f *secret.Finder) []string {
	words = slices.Clone(words)
	found := f.Text(event.PlaceCommand, strings.Join(words, " "))
	for _, x := range slices.Backward(found) {
		at := 0
		for i, word := range words {
			start, end := max(x.Start-at, 0), min(x.End-at, len(word))
			if at += len(word) + 1; start < end {
				words[i] = word[:start] + mark(x.Rule) + word[end:]
			}
		}
	}
	return words
}
